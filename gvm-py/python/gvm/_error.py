"""The base of every exception for an error code.

In: what Rust says of a failure. Out: an exception with a code, a message and an outcome. Must not know: what
failed.
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """A coded error of GVM.

    `code` is stable (`"MODULE_NOT_FOUND"`); `message` is one sentence. `outcome` says whether the call may
    have had effects: `"not-started"`, `"ran-and-failed"`, or `"unknown"` (the connection was lost while it ran).
    `context` has more lines for a person: a backtrace, a signature. `help` says what you can do; it is also a note
    of the exception, so that a traceback shows it. An error that `map` or `starmap` raises has the `index` of its
    item and the item's `arguments`.
    """

    code: str = "INTERNAL"
    index: int | None = None
    arguments: tuple[Any, ...] | None = None

    def __init__(
        self,
        message: str = "",
        *,
        outcome: str = "not-started",
        context: str | None = None,
        help: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome
        self.context = context
        self.help = help
        if help:
            self.add_note(f"help: {help}")
        self.status = status

    def __str__(self) -> str:
        lines = f"{self.code}: {self.message}"
        return f"{lines}\n{self.context}" if self.context else lines

    def __reduce__(self) -> tuple[Any, ...]:
        # Whatever was added to it, such as a note, goes along.
        return type(self), (self.message,), dict(vars(self))
