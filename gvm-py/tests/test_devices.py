"""The network of devices: invitations, joining, calls on nodes of another device."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import gvm
import pytest

ADD = b"""(module (func (export "add") (param i32 i32) (result i32)
    (i32.add (local.get 0) (local.get 1))))"""


@pytest.fixture
def homes() -> Iterator[tuple[Path, Path]]:
    # Each has a gpmd of its own.
    with gvm.LocalNetwork(nodes=1) as one, gvm.LocalNetwork(nodes=1) as other:
        yield one.home, other.home


def test_a_device_is_invited_and_joins(homes: tuple[Path, Path]) -> None:
    here, there = (gvm.Network(home) for home in homes)
    with pytest.raises(gvm.InvitationInvalid):
        there.join("gvm-join:nonsense")
    invitation = here.invite(expires=60, name="pi")
    assert invitation.line and invitation.role == "member" and invitation.name == "pi"
    left = invitation.expires - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(0) < left <= datetime.timedelta(seconds=61)
    assert invitation.line not in repr(invitation), "the line is a secret"
    open = here.invitations()
    assert [each.id for each in open] == [invitation.id] and open[0].line is None
    joined = gvm.join(invitation.line, home=there.home)
    assert joined.name == "pi" and joined.devices == 2 and here.invitations() == []
    assert sorted(device.name for device in here.devices) == sorted([joined.inviter, "pi"])
    own = {device.name: device.own for device in there.devices}
    assert own == {joined.inviter: False, "pi": True}
    assert "pi" in there.devices._repr_html_()
    with pytest.raises(gvm.NetworkJoined):
        there.join(here.invite().line or "")
    with pytest.raises(gvm.DeviceNotFound):
        here.remove("nobody")


def test_nodes_of_another_device_are_called(homes: tuple[Path, Path]) -> None:
    here, there = (gvm.Network(home) for home in homes)
    there.join(here.invite(name="pi").line or "")
    with gvm.Node("study", home=here.home) as study, gvm.Node("attic", home=there.home) as attic:
        wanted = "attic@pi"
        until = time.monotonic() + 20
        while wanted not in study.discover():
            assert time.monotonic() < until, study.discover()
            time.sleep(0.05)
        peer = study.connect(wanted)
        assert peer.name == wanted and study.connect("attic").name == wanted
        # The module is only on this device.
        study.upload("sum", "1.0.0", ADD)
        assert peer.module("sum").add(20, 22) == 42
        assert study.run(wanted, "sum.add(1, 2)") == 3
        # This one is only on the other device.
        attic.upload("far", "1.0.0", ADD)
        assert study.run(wanted, "far.add(2, 3)") == 5
        with gvm.Pool([study, peer]) as pool:
            assert list(pool.map("sum.add", range(50), range(50))) == [2 * n for n in range(50)]


def test_invitations_end(homes: tuple[Path, Path]) -> None:
    here, there = (gvm.Network(home) for home in homes)
    revoked, open = here.invite(), here.invite()
    here.revoke(revoked)
    # A device without an open invitation and without others does not listen to them.
    assert [each.id for each in here.invitations()] == [open.id]
    for line in (revoked.line or "", (revoked.line or "")[:-4] + "AAAA"):
        with pytest.raises(gvm.InvitationInvalid):
            there.join(line)
    with pytest.raises(gvm.BadArguments):
        here.invite(role="owner")  # type: ignore[arg-type]
    with pytest.raises(gvm.BadArguments):
        here.invite(expires=None)  # type: ignore[arg-type]


def test_a_device_is_removed_or_leaves(homes: tuple[Path, Path]) -> None:
    here, there = (gvm.Network(home) for home in homes)
    there.join(here.invite(name="pi").line or "")
    here.remove("pi")
    assert [device.own for device in here.devices] == [True]
    there.leave()

    async def again() -> list[str]:
        invitation = await here.invite.aio(name="pi-2")
        await there.join.aio(invitation.line or "")
        return await there.leave.aio()

    told = asyncio.run(again())
    assert len(told) == 1 and len(here.devices) == 1


def test_a_home_without_gpmd(tmp_path: Path) -> None:
    with pytest.raises(gvm.GpmdNotRunning):
        gvm.Network(tmp_path / "home").invite()
