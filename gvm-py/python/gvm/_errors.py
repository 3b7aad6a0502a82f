"""One exception class for each error code, and the one for WIT errors.

In: what Rust says of a failure. Out: exceptions that a person can catch by code, by `Error`, or by the
builtin that fits. Must not know: what failed.
"""

from __future__ import annotations

from typing import Any


class Error(Exception):
    """A coded error of GVM.

    `code` is stable (`"MODULE_NOT_FOUND"`), `message` one sentence. `outcome` says whether the call may
    have had effects: `"not-started"`, `"ran-and-failed"`, or `"unknown"` (the connection went while it ran).
    `context` has more lines for a person: a backtrace, a signature. An error that `map` or `starmap` raises
    has the `index` of its item and the item's `arguments`.
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
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.outcome = outcome
        self.context = context
        self.status = status

    def __str__(self) -> str:
        lines = f"{self.code}: {self.message}"
        return f"{lines}\n{self.context}" if self.context else lines

    def __reduce__(self) -> tuple[Any, ...]:
        # Whatever was added to it, such as a note, goes along.
        return type(self), (self.message,), dict(vars(self))


class Internal(Error, RuntimeError):
    """A fault of ours. Please report it."""

    code = "INTERNAL"


class GpmdNotRunning(Error, ConnectionError):
    """No daemon answers in this home: `gpmd start`, or use `gvm.LocalNetwork`."""

    code = "GPMD_NOT_RUNNING"


class PortInUse(Error, OSError):
    """Something else listens there."""

    code = "PORT_IN_USE"


class NodeNameTaken(Error, ValueError):
    """A live node has this name: choose another."""

    code = "NODE_NAME_TAKEN"


class NodeNotFound(Error, LookupError):
    """No live node has this name: `node.discover()` lists those there are."""

    code = "NODE_NOT_FOUND"


class NodeNotConnected(Error, ConnectionError):
    """The node is not connected: `node.connect(name)` first."""

    code = "NODE_NOT_CONNECTED"


class ConnectionDenied(Error, ConnectionRefusedError):
    """The other node's accept policy said no."""

    code = "CONNECTION_DENIED"


class NodeDown(Error, ConnectionResetError):
    """The other node, or the connection to it, went away."""

    code = "NODE_DOWN"


class Closed(NodeDown, RuntimeError):
    """The node, network, pool or iterator has been closed here. Nothing was sent."""


class AuthFailed(Error, PermissionError):
    """The other side does not hold this home's key."""

    code = "AUTH_FAILED"


class NotPermitted(Error, PermissionError):
    """This may not be done here."""

    code = "NOT_PERMITTED"


class HomeInsecure(Error, PermissionError):
    """Others can read or write the home: `chmod 700`."""

    code = "HOME_INSECURE"


class StorageFull(Error, OSError):
    """The disk refused: free some space."""

    code = "STORAGE_FULL"


class VersionMismatch(Error):
    """The two sides speak protocols too far apart: upgrade the older."""

    code = "VERSION_MISMATCH"


class ModuleNotFound(Error, LookupError):
    """No such module or version in this home."""

    code = "MODULE_NOT_FOUND"


class ModuleExists(Error, FileExistsError):
    """This name and version hold other bytes: take a new version."""

    code = "MODULE_EXISTS"


class ModuleInvalid(Error, ValueError):
    """The bytes are no WebAssembly that can be run."""

    code = "MODULE_INVALID"


class ModuleCorrupt(Error):
    """A stored file is not what was uploaded: upload it again."""

    code = "MODULE_CORRUPT"


class FunctionNotFound(Error, AttributeError, LookupError):
    """The module has no such function; the message lists the near ones."""

    code = "FUNCTION_NOT_FOUND"


class FunctionAmbiguous(Error, AttributeError, LookupError):
    """Several interfaces have this function; the message lists the qualified names."""

    code = "FUNCTION_AMBIGUOUS"


class BadArguments(Error, TypeError, ValueError):
    """The arguments do not fit the signature, which the message shows. Nothing was sent."""

    code = "BAD_ARGUMENTS"


class UnsupportedType(Error, TypeError):
    """The signature holds a type that cannot cross (resource, stream, future, v128, reference)."""

    code = "UNSUPPORTED_TYPE"


class ImportUnsatisfied(Error):
    """The module imports what the node does not offer or has not granted."""

    code = "IMPORT_UNSATISFIED"


class InstanceNotFound(Error, LookupError):
    """The live instance is gone."""

    code = "INSTANCE_NOT_FOUND"


class Trap(Error, RuntimeError):
    """The guest trapped; `context` has its backtrace."""

    code = "TRAP"


class GuestExit(Error):
    """The guest exited with a status other than 0, or a function exited before it returned; `status` has it."""

    code = "GUEST_EXIT"


class LimitExceeded(Error):
    """A limit stopped the guest; the message says which and how much."""

    code = "LIMIT_EXCEEDED"


class Timeout(Error, TimeoutError):
    """The call ran longer than it may."""

    code = "TIMEOUT"


class Cancelled(Error):
    """The call was cancelled."""

    code = "CANCELLED"


class Overloaded(Error):
    """Too many calls at once: wait and try again."""

    code = "OVERLOADED"


class Syntax(Error, ValueError):
    """What was typed cannot be read; the message points at the place."""

    code = "SYNTAX"


class OutputLost(Error):
    """Output could not be written where it was sent; the call itself may have done its work."""

    code = "OUTPUT_LOST"


class WitError(Exception):
    """The function returned the `err` of its WIT `result`: a value of the call, not a failure of it."""

    index: int | None = None
    arguments: tuple[Any, ...] | None = None

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return "the function answered with an error" if self.value is None else f"{self.value}"


CLASSES: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        Internal, GpmdNotRunning, PortInUse, NodeNameTaken, NodeNotFound, NodeNotConnected,
        ConnectionDenied, NodeDown, AuthFailed, NotPermitted, HomeInsecure, StorageFull, VersionMismatch,
        ModuleNotFound, ModuleExists, ModuleInvalid, ModuleCorrupt, FunctionNotFound, FunctionAmbiguous,
        BadArguments, UnsupportedType, ImportUnsatisfied, InstanceNotFound, Trap, GuestExit, LimitExceeded,
        Timeout, Cancelled, Overloaded, Syntax, OutputLost,
    )
}
