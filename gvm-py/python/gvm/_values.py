"""WIT values that Python has no form of its own for.

In: names and payloads. Out: small immutable classes that match, compare, hash, pickle and print well; record
classes, made once for each shape. Must not know: how values cross (that is Rust's).
"""

from __future__ import annotations

import dataclasses
import inspect
import keyword
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Value:
    """What all of these share: they are equal where all their fields are, and have a hash where all their
    fields have one. Fields compare as the elements of a Python list do; arrays, element by element."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        return all(_same(getattr(self, name), getattr(other, name)) for name in _fields(self))

    def __hash__(self) -> int:
        return hash((type(self).__name__, *(_hash(self, name) for name in _fields(self))))


def _fields(value: Any) -> tuple[str, ...]:
    names: tuple[str, ...] = value.__match_args__
    return names


def _hash(value: object, name: str) -> int:
    try:
        return hash(getattr(value, name))
    except TypeError as error:
        kind = type(value).__name__
        raise TypeError(f"a {kind} has a hash only where all its fields have one: `{name}`: {error}") from None


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    for text in (str, bytes):
        if isinstance(one, text) or isinstance(other, text):
            return isinstance(one, text) and isinstance(other, text) and one == other
    if type(one) is type(other) and isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if hasattr(one, "__array__") or hasattr(other, "__array__"):
        return _shape(one) == _shape(other) and _all(one == other)
    return bool(one == other)


def _shape(thing: Any) -> tuple[int, ...]:
    """The shape of an array, of a list beside one, or of a single number."""
    shape = getattr(thing, "shape", None)
    if shape is not None:
        return tuple(shape)
    return (len(thing),) if hasattr(thing, "__len__") else ()


def _all(equal: Any) -> bool:
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Variant(_Value):
    """One case of a WIT variant, with its value where the case has one.

    >>> match gvm.Variant("circle", 1.5):
    ...     case gvm.Variant("circle", radius): print(radius)
    1.5
    """

    case: str
    value: Any = None

    def __repr__(self) -> str:
        return f"Variant({self.case!r})" if self.value is None else f"Variant({self.case!r}, {self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Some(_Value, Generic[T]):
    """An option that is there, where the option's value could be None itself: `option<option<u8>>`."""

    value: T

    def __repr__(self) -> str:
        return f"Some({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ok(_Value, Generic[T]):
    """A WIT `result` that is well, where a result stands inside of another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Ok({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Err(_Value, Generic[T]):
    """A WIT `result` that is an error, where a result stands inside of another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Err({self.value!r})"


class Record(_Value):
    """What every WIT record is: a frozen dataclass of its fields, in snake_case. A dict, or any object with
    these attributes, is accepted in its place. `dataclasses.replace` makes one with other values."""

    __slots__ = ()

    def _asdict(self) -> dict[str, Any]:
        """The fields and their values, records inside left as they are."""
        return {name: getattr(self, name) for name in _fields(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        # The class is made from the shape, wherever this is read.
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        return _record, (_fields(self), tuple(str(field.type) for field in fields), tuple(self._asdict().values()))


def _record(fields: tuple[str, ...], types: tuple[str, ...], values: tuple[Any, ...]) -> Record:
    return record_class(fields, types)(*values)


def attribute(name: str) -> str:
    """A WIT name as Python has it: `from` is `from_`, `max-size` is `max_size`."""
    snake = name.replace("-", "_")
    return f"{snake}_" if keyword.iskeyword(snake) else snake


_records: dict[tuple[tuple[str, ...], tuple[str, ...]], type[Record]] = {}


def record_class(fields: tuple[str, ...], types: tuple[str, ...]) -> type[Record]:
    """The class of the records with these fields; `types` are what WIT calls theirs. Records of one shape are
    of one class, so that they compare, whichever function they come from."""
    made = _records.get((fields, types))
    if made is None:
        notes = [(field, Wit(wit)) for field, wit in zip(fields, types)]
        made = dataclasses.make_dataclass("Record", notes, bases=(Record,), slots=True, frozen=True, eq=False)
        made.__module__ = "gvm"
        made = _records.setdefault((fields, types), made)
    return made


class Wit(str):
    """A WIT type as an annotation: it prints as it is written in WIT."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(names: tuple[str, ...], types: tuple[str, ...], result: str | None) -> inspect.Signature:
    """A function's signature with its WIT types as annotations."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    params = [inspect.Parameter(name, kind, annotation=Wit(wit)) for name, wit in zip(names, types)]
    given = inspect.Signature.empty if result is None else Wit(result)
    return inspect.Signature(params, return_annotation=given)
