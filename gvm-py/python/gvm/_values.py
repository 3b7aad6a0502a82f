"""Classes for the WIT values that have no counterpart in Python.

In: names and payloads. Out: small immutable classes that support matching, comparison, hashing, pickling and printing;
record classes, made once per shape. Must not know: how Rust converts values.
"""

from __future__ import annotations

import dataclasses
import inspect
import keyword
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class _Value:
    """The base class of these values. Two values are equal if all their fields are. A value has a hash if all its
    fields have one. Fields compare like the elements of a Python list, and arrays element by element."""

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
        raise TypeError(f"a {kind} has a hash only if all its fields have one: `{name}`: {error}") from None


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
    """Returns the shape of an array, of a list that is compared with one, or of a single number."""
    shape = getattr(thing, "shape", None)
    if shape is not None:
        return tuple(shape)
    return (len(thing),) if hasattr(thing, "__len__") else ()


def _all(equal: Any) -> bool:
    return bool(equal.all()) if hasattr(equal, "all") else bool(equal)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Variant(_Value):
    """One case of a WIT variant, with its value if the case has one.

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
    """The `some` of a WIT option whose value may itself be None, as in `option<option<u8>>`."""

    value: T

    def __repr__(self) -> str:
        return f"Some({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Ok(_Value, Generic[T]):
    """The `ok` of a WIT `result` inside another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Ok({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Err(_Value, Generic[T]):
    """The `err` of a WIT `result` inside another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Err({self.value!r})"


class Record(_Value):
    """The base class of WIT records: frozen dataclasses with their fields in snake_case.

    As an argument, a dict or any object with these attributes works too. `dataclasses.replace` makes a record with
    other values.
    """

    __slots__ = ()

    def _asdict(self) -> dict[str, Any]:
        """Returns the fields and their values as a dict. Nested records stay records."""
        return {name: getattr(self, name) for name in _fields(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        # The process that unpickles it makes the class from the shape.
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        return _record, (_fields(self), tuple(str(field.type) for field in fields), tuple(self._asdict().values()))


def _record(fields: tuple[str, ...], types: tuple[str, ...], values: tuple[Any, ...]) -> Record:
    return record_class(fields, types)(*values)


def attribute(name: str) -> str:
    """Returns the Python name for a WIT name: `from_` for `from`, `max_size` for `max-size`."""
    snake = name.replace("-", "_")
    return f"{snake}_" if keyword.iskeyword(snake) else snake


_records: dict[tuple[tuple[str, ...], tuple[str, ...]], type[Record]] = {}


def record_class(fields: tuple[str, ...], types: tuple[str, ...]) -> type[Record]:
    """Returns the class of records with these fields; `types` are the WIT types of the fields.

    Records of one shape have one class, so they are comparable whichever function returned them.
    """
    made = _records.get((fields, types))
    if made is None:
        notes = [(field, Wit(wit)) for field, wit in zip(fields, types)]
        made = dataclasses.make_dataclass("Record", notes, bases=(Record,), slots=True, frozen=True, eq=False)
        made.__module__ = "gvm"
        made = _records.setdefault((fields, types), made)
    return made


class Wit(str):
    """A WIT type as an annotation. It prints in WIT syntax."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def signature(names: tuple[str, ...], types: tuple[str, ...], result: str | None) -> inspect.Signature:
    """Returns the signature of a function, with WIT types as annotations."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    params = [inspect.Parameter(name, kind, annotation=Wit(wit)) for name, wit in zip(names, types)]
    given = inspect.Signature.empty if result is None else Wit(result)
    return inspect.Signature(params, return_annotation=given)
