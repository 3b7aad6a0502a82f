"""One exception class for each error code. Generated from `schema/codes.toml` by
`cargo run -p gvm-codegen`: do not edit.

In: nothing. Out: classes that a program can catch by code, by `Error`, or by the builtin that fits.
Must not know: when they are raised.
"""

from __future__ import annotations

from ._error import Error


class Internal(Error, RuntimeError):
    """GVM has a bug, or the system refused something basic, such as reading a file or starting a thread."""

    code = "INTERNAL"


class GpmdNotRunning(Error, ConnectionError):
    """No daemon answers in this home, or at the address given with `--gpmd`."""

    code = "GPMD_NOT_RUNNING"


class PortInUse(Error, OSError):
    """Another program listens on a port that gpmd, or `--listen`, needs."""

    code = "PORT_IN_USE"


class NodeNameTaken(Error, ValueError):
    """A running node already has this name."""

    code = "NODE_NAME_TAKEN"


class NodeNotFound(Error, LookupError):
    """No running node of this home has this name."""

    code = "NODE_NOT_FOUND"


class NodeNotConnected(Error, ConnectionError):
    """This node is not connected to a node of this name."""

    code = "NODE_NOT_CONNECTED"


class ConnectionDenied(Error, ConnectionRefusedError):
    """The other node refused the connection."""

    code = "CONNECTION_DENIED"


class NodeDown(Error, ConnectionResetError):
    """The other node, or the connection to it, is gone."""

    code = "NODE_DOWN"


class AuthFailed(Error, PermissionError):
    """The other side does not have this home's key, or belongs to another user."""

    code = "AUTH_FAILED"


class NotPermitted(Error, PermissionError):
    """The session does not have the right to do this."""

    code = "NOT_PERMITTED"


class HomeInsecure(Error, PermissionError):
    """Other users can enter the home folder or read its key, or the folder belongs to another user."""

    code = "HOME_INSECURE"


class StorageFull(Error, OSError):
    """The disk, or your quota on it, is full."""

    code = "STORAGE_FULL"


class VersionMismatch(Error):
    """The two sides speak incompatible protocols, or a later version wrote a file."""

    code = "VERSION_MISMATCH"


class ModuleNotFound(Error, LookupError):
    """This home has no such module or version, or there is no such file."""

    code = "MODULE_NOT_FOUND"


class ModuleExists(Error, FileExistsError):
    """This name and version already exist with different content."""

    code = "MODULE_EXISTS"


class ModuleInvalid(Error, ValueError):
    """The bytes are not a WebAssembly module or component that GVM can run."""

    code = "MODULE_INVALID"


class ModuleCorrupt(Error):
    """A stored file is no longer what was uploaded: the disk or a person changed it."""

    code = "MODULE_CORRUPT"


class FunctionNotFound(Error, AttributeError, LookupError):
    """The module has no such function, or no main."""

    code = "FUNCTION_NOT_FOUND"


class FunctionAmbiguous(Error, AttributeError, LookupError):
    """Several interfaces of the component have a function of this name."""

    code = "FUNCTION_AMBIGUOUS"


class BadArguments(Error, TypeError, ValueError):
    """The arguments do not match the function's signature."""

    code = "BAD_ARGUMENTS"


class UnsupportedType(Error, TypeError):
    """The signature has a type that cannot be passed yet: a resource, stream, future, `v128` or reference."""

    code = "UNSUPPORTED_TYPE"


class ImportUnsatisfied(Error):
    """The module imports something that the node does not offer, or offers with another type."""

    code = "IMPORT_UNSATISFIED"


class InstanceNotFound(Error, LookupError):
    """No live instance has this name."""

    code = "INSTANCE_NOT_FOUND"


class Trap(Error, RuntimeError):
    """The guest trapped."""

    code = "TRAP"


class GuestExit(Error):
    """The guest exited with a status other than 0, or a function exited before it returned."""

    code = "GUEST_EXIT"


class LimitExceeded(Error):
    """A limit stopped the guest, or refused what was asked."""

    code = "LIMIT_EXCEEDED"


class Timeout(Error, TimeoutError):
    """The call took longer than its time limit, and was stopped."""

    code = "TIMEOUT"


class Cancelled(Error):
    """The call was cancelled."""

    code = "CANCELLED"


class Overloaded(Error):
    """There is too much work at once."""

    code = "OVERLOADED"


class Syntax(Error, ValueError):
    """GVM cannot parse what you typed, at the prompt, on the command line or in `config.toml`."""

    code = "SYNTAX"


class OutputLost(Error):
    """Output could not be written: standard output is closed, or the device or pipe behind it failed."""

    code = "OUTPUT_LOST"


class InvitationInvalid(Error, ValueError):
    """The invitation cannot be used: it was used, has expired, was revoked, or is not complete."""

    code = "INVITATION_INVALID"


class NetworkJoined(Error):
    """This device belongs to a network with other devices already."""

    code = "NETWORK_JOINED"


class NodeNameAmbiguous(Error, LookupError):
    """Nodes on several devices have this name, and none of them runs on this device."""

    code = "NODE_NAME_AMBIGUOUS"


class DeviceNotFound(Error, LookupError):
    """No device of the network has this name or id."""

    code = "DEVICE_NOT_FOUND"


class DeviceDown(Error, ConnectionError):
    """The other device is not connected, or the connection to it was lost."""

    code = "DEVICE_DOWN"


CLASSES: dict[str, type[Error]] = {
    kind.code: kind
    for kind in (
        Internal,
        GpmdNotRunning,
        PortInUse,
        NodeNameTaken,
        NodeNotFound,
        NodeNotConnected,
        ConnectionDenied,
        NodeDown,
        AuthFailed,
        NotPermitted,
        HomeInsecure,
        StorageFull,
        VersionMismatch,
        ModuleNotFound,
        ModuleExists,
        ModuleInvalid,
        ModuleCorrupt,
        FunctionNotFound,
        FunctionAmbiguous,
        BadArguments,
        UnsupportedType,
        ImportUnsatisfied,
        InstanceNotFound,
        Trap,
        GuestExit,
        LimitExceeded,
        Timeout,
        Cancelled,
        Overloaded,
        Syntax,
        OutputLost,
        InvitationInvalid,
        NetworkJoined,
        NodeNameAmbiguous,
        DeviceNotFound,
        DeviceDown,
    )
}
