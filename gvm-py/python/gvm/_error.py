"""The base class of the exceptions for error codes.

In: the parts of an error. Out: an exception with a code, a message, an outcome and help. Must not know: what failed.
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """An error of GVM with a code.

    `code` is stable (`"MODULE_NOT_FOUND"`). `message` says in one line what happened. `outcome` says whether the call
    may have had effects: `"not-started"`, `"ran-and-failed"`, or `"unknown"` (the connection was lost while it ran).
    `context` has more lines, such as a backtrace or a signature; it is None if there are none. `help` says what you
    can do, or is None. The help is also a note of the exception, so a traceback shows it and `str(error)` does not.
    `status` is the guest's exit status (`gvm.GuestExit`). An error that `map` or `starmap` raises has the `index` of
    its item and the item's `arguments`.
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
        # The state holds everything that was added later. The notes are part of it, with the help among them, so the
        # help is not passed to the class a second time.
        return type(self), (self.message,), dict(vars(self))
