"""Every exception that this package raises.

In: the classes of the codes. Out: those, and two that are no code of their own. Must not know: what failed.
"""

from __future__ import annotations

from typing import Any

from ._codes import *  # noqa: F403
from ._codes import CLASSES, NodeDown
from ._error import Error

__all__ = ["CLASSES", "Closed", "Error", "WitError", *(kind.__name__ for kind in CLASSES.values())]


class Closed(NodeDown, RuntimeError):
    """The node, network, pool or iterator has been closed here. Nothing was sent."""


class WitError(Exception):
    """The function returned the `err` of its WIT `result`: a value of the call, not a failure of it."""

    index: int | None = None
    arguments: tuple[Any, ...] | None = None

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return "the function answered with an error" if self.value is None else f"{self.value}"
