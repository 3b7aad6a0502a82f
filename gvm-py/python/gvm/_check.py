"""Checks of the arguments that callers pass.

In: the name of a parameter and the value that was passed for it. Out: the value in the form that this package uses,
or `gvm.BadArguments` with the name of the parameter. Must not know: what the parameters do.
"""

from __future__ import annotations

import datetime
import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from ._errors import BadArguments


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raises `gvm.BadArguments` for a value that does not fit."""
    raise BadArguments(f"{name}: expected {expected}, found {reprlib.repr(value)}")


def flag(name: str, value: object) -> bool:
    """Checks for True or False."""
    if not isinstance(value, bool):
        refuse(name, "True or False", value)
    return value


def count(name: str, value: Any, least: int = 0) -> int:
    """Checks for a whole number of at least `least`."""
    expected = f"a whole number of at least {least}"
    if isinstance(value, bool):
        refuse(name, expected, value)
    try:
        number = operator.index(value)
    except TypeError:
        refuse(name, expected, value)
    if number < least:
        refuse(name, expected, value)
    return number


def seconds(name: str, value: Any) -> float | None:
    """Checks for a time in seconds or a `timedelta`, and returns seconds. None means no limit."""
    if value is None:
        return None
    expected = "a finite number of seconds, 0 or more, or None"
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, (bool, str, bytes)):
        refuse(name, expected, value)
    try:
        time = float(value)
    except (TypeError, ValueError, OverflowError):
        refuse(name, expected, value)
    if not (math.isfinite(time) and time >= 0):
        refuse(name, expected, value)
    return time


def text(name: str, value: object) -> str:
    """Checks for a str."""
    if not isinstance(value, str):
        refuse(name, "a str", value)
    return value


def optional_text(name: str, value: object) -> str | None:
    """Checks for a str or None."""
    return None if value is None else text(name, value)


def texts(name: str, value: Any) -> list[str]:
    """Checks for several str. Refuses a single str, because iterating over it yields its characters."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        refuse(name, "a list of str", value)
    return [text(f"{name}[{place}]", item) for place, item in enumerate(value)]


def pairs(name: str, value: Any) -> list[tuple[str, str]]:
    """Checks for a mapping of str to str. None means an empty one."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        refuse(name, "a mapping of str to str", value)
    return [(text(name, key), text(f"{name}[{key!r}]", item)) for key, item in value.items()]


def path(name: str, value: Any) -> str:
    """Checks for a path, and returns it as a str."""
    try:
        found = os.fspath(value)
    except TypeError:
        refuse(name, "a path", value)
    return os.fsdecode(found)


def function(name: str, value: Any) -> Any:
    """Checks for a callable or None."""
    if value is not None and not callable(value):
        refuse(name, "a function", value)
    return value


def known(names: Iterable[str], allowed: Iterable[str], what: str) -> None:
    """Refuses keyword arguments that are not in `allowed`; `what` names the object that takes them."""
    choices = sorted(allowed)
    for name in names:
        if name not in choices:
            raise BadArguments(f"unexpected keyword argument {name!r}", help=f"{what} takes {', '.join(choices)}")
