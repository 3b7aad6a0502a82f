"""WIT values that Python has no form of its own for.

In: names and payloads. Out: small immutable classes that match, compare and print well; record classes,
made once for each shape. Must not know: how values cross (that is Rust's).
"""

from __future__ import annotations

import dataclasses
import inspect
import keyword
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One case of a WIT variant, with its value where the case has one.

    >>> match gvm.Variant("circle", 1.5):
    ...     case gvm.Variant("circle", radius): print(radius)
    1.5
    """

    case: str
    value: Any = None

    def __repr__(self) -> str:
        return f"Variant({self.case!r})" if self.value is None else f"Variant({self.case!r}, {self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Some(Generic[T]):
    """An option that is there, where the option's value could be None itself: `option<option<u8>>`."""

    value: T

    def __repr__(self) -> str:
        return f"Some({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A WIT `result` that is well, where a result stands inside of another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Ok({self.value!r})"


@dataclasses.dataclass(frozen=True, slots=True)
class Err(Generic[T]):
    """A WIT `result` that is an error, where a result stands inside of another value."""

    value: T | None = None

    def __repr__(self) -> str:
        return f"Err({self.value!r})"


class Record:
    """What every WIT record is: a dataclass of its fields, in snake_case. A dict, or any object with these
    attributes, is taken in its place."""

    __slots__ = ()

    def _asdict(self) -> dict[str, Any]:
        """The fields and their values, records inside left as they are."""
        return {field: getattr(self, field) for field in self.__match_args__}  # type: ignore[attr-defined]


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
        made = dataclasses.make_dataclass("Record", notes, bases=(Record,), slots=True)
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
