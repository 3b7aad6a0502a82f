"""The network of a person's devices: invitations, joining, devices.

In: a home whose gpmd runs. Out: what gpmd says about the network. Must not know: nodes, calls.
"""

from __future__ import annotations

import datetime
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from . import _check, _gvm, _html
from ._loop import Steps, twin

def _time(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.timezone.utc)


@dataclass(frozen=True)
class Invitation:
    """An open invitation, good for one device. Whoever has its `line` can use it."""

    id: str
    role: Literal["member", "guest"]
    name: str | None
    """The name that the device will have. None if it chooses its own."""
    expires: datetime.datetime
    line: str | None = field(default=None, repr=False)
    """What the other device needs: `gvm.join(line)`. Only the call that made the invitation returns it."""


@dataclass(frozen=True)
class Joined:
    """What a device knows after it has joined a network."""

    inviter: str
    name: str
    """The name of this device in the network."""
    devices: int
    """How many devices the network has."""


@dataclass(frozen=True)
class Device:
    """A device of the network, as this one knows it."""

    name: str
    id: str
    own: bool
    """Whether it is this device."""
    role: Literal["member", "guest"]
    up: bool
    since: datetime.datetime
    """When it came up or went down."""
    address: str | None
    """The address in use. None if it is not connected."""
    transport: str | None
    """`tcp`, `iroh`, or `relayed` if a relay passes the packets on."""
    round_trip: float | None
    """In seconds."""
    nodes: int
    modules: int
    version: str | None
    addresses: list[str]
    tunnel: str | None
    """Where packets in tunnels to it go: `udp:HOST:PORT`, or the URL of a relay."""
    relay: str | None
    """Where it is met if it cannot be dialled."""
    problem: str | None
    """Why it cannot be reached."""
    admitted_by: str
    admitted: datetime.datetime


class Devices(list[Device]):
    """The devices of a network, sorted by name."""

    def _repr_html_(self) -> str:
        def state(device: Device) -> str:
            return "this device" if device.own else "up" if device.up else "down"

        rows = [(d.name, d.role, state(d), d.address or "", d.nodes, d.version or "") for d in self]
        return _html.table("devices", ("name", "role", "state", "address", "nodes", "version"), rows)


class Network:
    """The network of the device with this home. Its gpmd must run (`gpmd start`).

    >>> gvm.Network().invite().line  # doctest: +SKIP
    'gvm-join:…'

    On the other device: `gvm.join(line)`.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = _home(home)

    @twin
    def join(self, line: str) -> Steps[Joined]:
        """Joins the network of the device that made this line."""
        words = json.loads((yield _gvm.network_join(self.home, _check.text("line", line))))
        return Joined(**words)

    @twin
    def invite(self, *, expires: float = 600, role: Literal["member", "guest"] = "member", name: str | None = None) -> Steps[Invitation]:
        """Makes an invitation that holds for `expires` seconds. A `member` is another device of the same person; a
        `guest` reaches only nodes that name it. `name` is the name that the device will have."""
        if role not in ("member", "guest"):
            _check.refuse("role", "'member' or 'guest'", role)
        seconds = _check.seconds("expires", expires)
        if seconds is None:
            _check.refuse("expires", "a number of seconds", expires)
        words = role == "guest", _check.optional_text("name", name)
        made = json.loads((yield _gvm.network_invite(self.home, seconds, *words)))
        return _invitation(made)

    @twin
    def invitations(self) -> Steps[list[Invitation]]:
        """Returns the open invitations, without their lines."""
        open = json.loads((yield _gvm.network_invitations(self.home)))
        return [_invitation(each) for each in open]

    @twin
    def revoke(self, invitation: Invitation | str) -> Steps[None]:
        """Revokes an invitation, or the one whose id begins so."""
        id = invitation.id if isinstance(invitation, Invitation) else _check.text("invitation", invitation)
        yield _gvm.network_revoke(self.home, id)

    @property
    def devices(self) -> Devices:
        """The devices of the network, this one among them."""
        status = json.loads(_gvm.network_devices(self.home).wait())
        return Devices(_device(each) for each in status["devices"])

    @twin
    def remove(self, device: Device | str) -> Steps[None]:
        """Removes another device, by its name or id. The others refuse it from then on."""
        name = device.id if isinstance(device, Device) else _check.text("device", device)
        yield _gvm.network_remove(self.home, name)

    @twin
    def leave(self) -> Steps[list[str]]:
        """Leaves the network. Returns the names of the devices that were told. This device then has a new key and a network of
        its own."""
        told: list[str] = json.loads((yield _gvm.network_leave(self.home)))
        return told

    def __repr__(self) -> str:
        return f"<gvm.Network of {self.home}>"


def join(line: str, *, home: str | os.PathLike[str] | None = None) -> Joined:
    """Joins the network of the device that made this line with `gvm.Network().invite()` or `gpmd invite`."""
    joined: Joined = Network(home).join(line)
    return joined


def _home(home: str | os.PathLike[str] | None) -> Path:
    if home is None:
        home = os.environ.get("GHOST_HOME") or Path.home() / ".ghost-network"
    return Path(_check.path("home", home))


def _invitation(said: dict[str, Any]) -> Invitation:
    return Invitation(said["id"], said["role"], said["name"], _time(said["expires"]), said.get("line"))


def _device(said: dict[str, Any]) -> Device:
    micros = said.pop("round_trip_us")
    times = {key: _time(said[key]) for key in ("since", "admitted")}
    return Device(**{**said, **times, "round_trip": None if micros is None else micros / 1e6})
