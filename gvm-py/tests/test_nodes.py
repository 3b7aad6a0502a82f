"""Nodes, peers and live instances, beginning with the calls that the specification lists."""

from __future__ import annotations

import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gvm
import pytest

from conftest import REPOSITORY, WAT

MATH = REPOSITORY / "gvm-host/samples/math.wat"


def test_the_listing(tmp_path: Path) -> None:
    with gvm.LocalNetwork(nodes=2) as net:
        net.upload("math", "0.0.1", MATH)
        net.upload("counter", "0.0.1", (WAT / "counter.wat").read_bytes())
        with gvm.Node(home=net.home) as node:
            assert node.name.startswith("node-") and len(node.id) == 36
            assert node.discover() == sorted([node.name, "node-1", "node-2"])
            peer = node.connect("node-1")
            assert isinstance(peer, gvm.Peer) and node.list() == ["node-1"]
            assert node.run("node-1", "math.add", 34, 34) == 68
            assert node.run("node-1", "math.add(34, 34)") == 68
            assert node.run("node-1", "math.add(math.add(1, 2), 3)") == 6
            assert node.run("node-1", "math") is None
            assert peer.run("math.add", 34, 34) == 68
            assert peer.module("math").add(34, 34) == 68
            assert node.module("math").add(34, 34) == 68
            assert node.run(node.name, "math@0.0.1.add", 1, 2) == 3

            async def twin() -> int:
                return await peer.module("math").add.aio(34, 34)

            assert asyncio.run(twin()) == 68
            with peer.spawn("counter") as c:
                assert [c.increment(), c.increment()] == [1, 2]
                assert node.instances() == {c.id: ("counter", "node-1")}
            assert node.instances() == {}
            node.disconnect("node-1")
            assert node.list() == []
            with pytest.raises(gvm.NodeNotConnected):
                peer.run("math.add", 1, 2)
        assert net.nodes[0].discover() == ["node-1", "node-2"]
        assert list(net.map("math.add", [1, 2, 3], [4, 5, 6])) == [5, 7, 9]
        assert net.submit("math.add", 1, 2).result() == 3


def test_nothing_is_left(values_wasm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is removed, also if a compilation runs when the network ends."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for n in range(5):
        with gvm.LocalNetwork(nodes=1) as net:
            net.upload("values", "1.0.0", values_wasm)
            net.upload("math", "1.0.0", MATH)
            time.sleep(n / 20)
        assert list(tmp_path.iterdir()) == []


def test_a_node_is_of_its_home(tmp_path: Path) -> None:
    with pytest.raises(gvm.GpmdNotRunning) as raised:
        gvm.Node(home=tmp_path / "home")
    assert isinstance(raised.value, ConnectionError) and raised.value.code == "GPMD_NOT_RUNNING"
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(gvm.HomeInsecure):
        gvm.Node(home=tmp_path / "open")


def test_names(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    with pytest.raises(gvm.NodeNameTaken):
        gvm.Node("node-1", home=net.home)
    with pytest.raises(gvm.NodeNotFound):
        node.connect("nobody")
    with pytest.raises(gvm.Syntax):
        node.connect("No Name")
    with pytest.raises(gvm.NodeNotConnected):
        node.disconnect("node-3")
    with pytest.raises(TypeError, match="tiemout"):
        node.run(None, "math.add", 1, 2, tiemout=3)
    with gvm.Node("alone", home=net.home, accept="none"):
        with pytest.raises(gvm.ConnectionDenied):
            node.connect("alone")


def test_events(net: gvm.LocalNetwork) -> None:
    heard: list[gvm.Event] = []
    with gvm.Node("watched", home=net.home, on_event=heard.append) as watched:
        events = watched.events()
        other = gvm.Node("passing", home=net.home)
        other.connect("watched")
        assert events.get(timeout=10) == gvm.Event("connected", "passing")
        other.close()
        down = events.get(timeout=10)
        assert down is not None and (down.kind, down.node) == ("down", "passing") and down.why
        assert events.get(timeout=0.01) is None
    assert list(events) == []
    assert [event.kind for event in heard] == ["connected", "down"]


def test_events_in_a_loop(net: gvm.LocalNetwork) -> None:
    async def main() -> list[str]:
        async with gvm.Node("awaited", home=net.home) as awaited:
            events = awaited.events()
            async with gvm.Node("brief", home=net.home) as brief:
                await brief.connect.aio("awaited")
                first = await anext(events)
            return [first.kind, (await anext(events)).kind]

    assert asyncio.run(main()) == ["connected", "down"]


def test_asking_and_revoking(net: gvm.LocalNetwork) -> None:
    with gvm.Node("asker", home=net.home) as asker, gvm.Node("careful", home=net.home, accept="ask") as careful:
        events = careful.events()
        for yes in (False, True):
            with ThreadPoolExecutor(1) as thread:
                connecting = thread.submit(asker.connect, "careful")
                asked = next(event for event in events if event.kind == "asked")
                assert asked.node == "asker"
                careful.answer(asked, yes)
                if yes:
                    assert connecting.result(20).run("math.add", 1, 2) == 3
                else:
                    with pytest.raises(gvm.ConnectionDenied):
                        connecting.result(20)
        with pytest.raises(ValueError):
            careful.answer(gvm.Event("down"), True)
        careful.revoke("asker")
        with pytest.raises(gvm.NodeNotConnected):
            careful.revoke("asker")


def test_what_peers_may_call(net: gvm.LocalNetwork) -> None:
    with gvm.Node("strict", home=net.home, allow_calls=["math.*"]), gvm.Node("guest", home=net.home) as guest:
        peer = guest.connect("strict")
        assert peer.run("math.add", 1, 2) == 3
        with pytest.raises(gvm.NotPermitted):
            peer.run("slow.add", 1, 2)
    with pytest.raises(ValueError, match="nodes"):
        gvm.Node(home=net.home, grant=["everything"])


def test_closing_waits_for_what_runs(net: gvm.LocalNetwork) -> None:
    for hurry, end in ((False, int), (True, gvm.Error)):
        node = gvm.Node(home=net.home)
        peer = node.connect("node-1")
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(peer.module("slow").work, 1, 600_000_000)
            time.sleep(0.1)
            node.close(hurry=hurry)
            ended = running.exception(20) or running.result()
            assert isinstance(ended, end), ended


def test_instances_end(place: gvm.Node | gvm.Peer) -> None:
    broken = place.spawn("counter")
    assert broken.increment() == 1
    with pytest.raises(gvm.Trap):
        broken.boom()
    with pytest.raises(gvm.InstanceNotFound):
        broken.increment()
    broken.close()
    broken.close()
    dropped = place.spawn("counter")
    name = dropped.id
    del dropped
    node = place.node if isinstance(place, gvm.Peer) else place
    for _ in range(1000):
        if name not in node.instances():
            break
        node.list()
    assert name not in node.instances()


def test_closed_nodes_say_so(net: gvm.LocalNetwork) -> None:
    node = gvm.Node(home=net.home)
    node.close()
    node.close()
    assert node.closed and "closed" in repr(node)
    with pytest.raises(gvm.NodeDown):
        node.module("math")
    with pytest.raises(gvm.Error):
        node.discover()


def test_they_show_themselves(net: gvm.LocalNetwork, node: gvm.Node, peer: gvm.Peer) -> None:
    for thing, word in (
        (node, "node-1"), (peer, "node-2"), (node.module("math"), "add"), (net.pool, "node-3"), (net, "node-3"),
    ):
        assert word in repr(thing) and word in thing._repr_html_()
        assert thing._repr_html_().count("<table>") == 1
    assert peer == node.connect("node-2") and len({peer, node.connect("node-2")}) == 1
    assert peer.connected and peer.discover() == node.discover()


def test_grants_are_the_nodes_own(net: gvm.LocalNetwork, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="HOST::GUEST"):
        gvm.Node(home=net.home, dirs=[f"{tmp_path}::/data::rx"])
    with pytest.raises(gvm.Syntax):
        gvm.Node(home=net.home, allow_net=["nowhere"])


def test_output_that_calls_back(place: gvm.Node | gvm.Peer) -> None:
    """A function that receives output may make calls. A call to the instance that writes is refused at once."""
    got: list[object] = []

    def again(text: str) -> None:
        got.append(place.module("lists").add(1, 2))
        with pytest.raises(gvm.NotPermitted, match="wait for itself"):
            live.nothing()
        got.append(text)

    with place.spawn("values", stdout=again) as live:
        live.sleep(200)
        assert got == [3, "sleeping\n"]
        assert live.increment() == 1
        got.clear()

        async def main() -> None:
            await live.sleep.aio(200)

        asyncio.run(main())
        assert got == [3, "sleeping\n"]
