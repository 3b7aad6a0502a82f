"""The Ghost Virtual Machine in Python: WebAssembly nodes that call each other's functions.

>>> with gvm.LocalNetwork(nodes=2) as net:
...     _ = net.upload("sum", "1.0.0", b'''(module (func (export "add") (param i32 i32) (result i32)
...         (i32.add (local.get 0) (local.get 1))))''')
...     sum = net.nodes[0].module("sum")
...     sum.add(34, 34)
68
"""

from __future__ import annotations

import os as _os

from . import _gvm
from ._errors import (
    AuthFailed,
    BadArguments,
    Cancelled,
    Closed,
    ConnectionDenied,
    DeviceDown,
    DeviceNotFound,
    Error,
    FunctionAmbiguous,
    FunctionNotFound,
    GpmdNotRunning,
    GuestExit,
    HomeInsecure,
    ImportUnsatisfied,
    InstanceNotFound,
    Internal,
    InvitationInvalid,
    LimitExceeded,
    ModuleCorrupt,
    ModuleExists,
    ModuleInvalid,
    ModuleNotFound,
    NetworkJoined,
    NodeDown,
    NodeNameAmbiguous,
    NodeNameTaken,
    NodeNotConnected,
    NodeNotFound,
    NotPermitted,
    OutputLost,
    Overloaded,
    PortInUse,
    StorageFull,
    Syntax,
    Timeout,
    Trap,
    UnsupportedType,
    VersionMismatch,
    WitError,
)
from ._devices import Device, Devices, Invitation, Joined, Network, join
from ._events import Event, Events
from ._future import Future, Results
from ._gvm import Function, __version__
from ._module import Instance, Interface, Module
from ._network import LocalNetwork
from ._nodes import Node
from ._peers import Peer
from ._pool import Pool
from ._values import Err, Ok, Record, Some, Variant

__all__ = [
    "AuthFailed", "BadArguments", "Cancelled", "Closed", "ConnectionDenied", "Device", "DeviceDown", "DeviceNotFound",
    "Devices", "Err", "Error", "Event", "Events", "Function", "FunctionAmbiguous", "FunctionNotFound", "Future",
    "GpmdNotRunning", "GuestExit", "HomeInsecure", "ImportUnsatisfied", "Instance", "InstanceNotFound", "Interface",
    "Internal", "Invitation", "InvitationInvalid", "join", "Joined", "LimitExceeded", "LocalNetwork", "Module",
    "ModuleCorrupt", "ModuleExists", "ModuleInvalid", "ModuleNotFound", "Network", "NetworkJoined", "Node",
    "NodeDown", "NodeNameAmbiguous", "NodeNameTaken", "NodeNotConnected", "NodeNotFound", "NotPermitted", "Ok",
    "OutputLost", "Overloaded", "Peer", "Pool", "PortInUse", "Record", "Results", "Some", "StorageFull", "Syntax",
    "Timeout", "Trap", "UnsupportedType", "Variant", "__version__", "VersionMismatch", "WitError",
]

if _log := _os.environ.get("RUST_LOG"):
    _gvm.log_to_stderr(_log)
