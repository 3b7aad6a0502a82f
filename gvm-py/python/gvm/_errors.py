"""The exceptions of this package.

In: the classes that are generated from the error codes. Out: the same classes, and two more that have no code of
their own. Must not know: what failed.
"""

from __future__ import annotations

from typing import Any

# Type checkers take `*` and `as` for exports. They cannot read an `__all__` that is computed.
from ._codes import *  # noqa: F403
from ._codes import CLASSES as CLASSES
from ._codes import NodeDown as NodeDown
from ._error import Error as Error

for _kind in (Error, *CLASSES.values()):
    # Tracebacks and pickles name this module, wherever the classes are generated.
    _kind.__module__ = __name__


class Closed(NodeDown, RuntimeError):
    """The node, network, pool or iterator was closed in this process. Nothing was sent."""


class WitError(Exception):
    """The function returned the `err` of its WIT `result`. This is a result of the call, not a failure."""

    index: int | None = None
    arguments: tuple[Any, ...] | None = None

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return "the function returned an error without a value" if self.value is None else f"{self.value}"
