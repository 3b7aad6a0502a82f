"""Closed objects raise an error with a code, and change nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import gvm
import pytest

from conftest import stock


@pytest.fixture
def net() -> Iterator[gvm.LocalNetwork]:
    with gvm.LocalNetwork(nodes=2) as net:
        stock(net)
        yield net


def refused(ask: Callable[[], Any], kind: type[gvm.Error] = gvm.Closed) -> None:
    with pytest.raises(kind, match="closed|shut down") as raised:
        made = ask()
        if asyncio.iscoroutine(made):
            asyncio.run(made)
    assert raised.value.code and raised.value.outcome == "not-started"
    if kind is gvm.Closed:
        assert isinstance(raised.value, (gvm.NodeDown)) and isinstance(raised.value, RuntimeError)
        assert (raised.value.help or "").startswith("make a new `gvm.")


@pytest.mark.parametrize("way", ["close", "hurry", "aio", "with", "network"])
def test_nodes(net: gvm.LocalNetwork, way: str) -> None:
    node = net.node if way == "network" else gvm.Node("ours", home=net.home)
    peer, math, live = node.connect("node-2"), node.module("slow"), node.spawn("counter")
    there, add, event = peer.module("slow"), math.add, gvm.Event("asked", "x", number=1)
    assert live.increment() == 1 and add(1, 2) == 3 and there.add(1, 2) == 3
    match way:
        case "close":
            node.close()
        case "hurry":
            node.close(hurry=True)
        case "aio":
            asyncio.run(node.close.aio())
        case "with":
            with node:
                pass
        case "network":
            net.close()
    assert node.closed and "closed" in repr(node) and "closed" in node._repr_html_()
    asks: list[Callable[[], Any]] = [
        node.discover, node.list, node.instances, node.events, node.__enter__, peer.discover, peer.disconnect,
        lambda: node.connect("node-2"), lambda: node.disconnect("node-2"), lambda: node.revoke("node-2"),
        lambda: node.answer(event, True), lambda: node.run(None, "slow.add", 1, 2),
        lambda: node.run("node-2", "slow.add(1, 2)"), lambda: node.run(None, "math"), lambda: node.module("slow"),
        lambda: node.spawn("counter"), lambda: node.upload("none", "1.0.0", b"(module)"),
        lambda: peer.run("slow.add", 1, 2), lambda: peer.module("slow"), lambda: peer.spawn("counter"),
        lambda: math.add(1, 2), lambda: add(1, 2), lambda: there.add(1, 2), lambda: math(), lambda: live.increment(),
        lambda: gvm.Pool([node]), lambda: gvm.Pool([peer]),
        lambda: add.aio(1, 2), lambda: node.discover.aio(), lambda: node.run.aio(None, "slow.add", 1, 2),
        lambda: node.__aenter__(),
    ]
    for ask in asks:
        refused(ask)
    assert not peer.connected and "not connected" in peer._repr_html_()
    # Ending an object that has ended raises nothing.
    node.close()
    live.close()
    asyncio.run(node.close.aio())
    del live
    if way != "network":
        with pytest.raises(gvm.ModuleNotFound):
            net.node.module("none")


def test_networks(net: gvm.LocalNetwork) -> None:
    pool, future = net.pool, net.submit("slow.add", 1, 2)
    assert future.result(20) == 3
    net.close()
    net.close()
    net.shutdown()
    assert "closed" in repr(net) and "closed" in net._repr_html_()
    asks: list[Callable[[], Any]] = [
        lambda: net.pool, lambda: net.submit("slow.add", 1, 2), lambda: net.map("slow.add", [1], [2]),
        lambda: net.starmap("slow.add", [(1, 2)]), lambda: net.upload("x", "1.0.0", b"(module)"), net.__enter__,
        lambda: pool.submit("slow.add", 1, 2), lambda: net.submit.aio("slow.add", 1, 2), lambda: net.__aenter__(),
        lambda: net.node.discover(), lambda: net.nodes[1].discover(),
    ]
    for ask in asks:
        refused(ask)
    assert future.result(0) == 3 and not net.home.exists()


@pytest.mark.parametrize("end", [gvm.Pool.close, gvm.Pool.shutdown, lambda pool: pool.shutdown(wait=False)])
def test_pools(net: gvm.LocalNetwork, end: Callable[[gvm.Pool], None]) -> None:
    pool = gvm.Pool(net.nodes)
    end(pool)
    end(pool)
    items = iter([1, 2])
    asks: list[Callable[[], Any]] = [
        lambda: pool.submit("slow.add", 1, 2), lambda: pool.map("slow.add", items, [3]),
        lambda: pool.starmap("slow.add", items), pool.__enter__, lambda: pool.submit.aio("slow.add", 1, 2),
        lambda: pool.__aenter__(),
    ]
    for ask in asks:
        refused(ask)
    assert list(items) == [1, 2] and "closed" in repr(pool)


def test_live_instances(net: gvm.LocalNetwork) -> None:
    for place in (net.node, net.node.connect("node-2")):
        live = place.spawn("counter")
        increment = live.increment
        assert increment() == 1
        live.close()
        live.close()
        for ask in (increment, live.increment, live.__enter__, lambda: increment.aio(), lambda: live.__aenter__()):
            with pytest.raises(gvm.InstanceNotFound, match=live.id):
                made = ask()
                if asyncio.iscoroutine(made):
                    asyncio.run(made)
        assert net.node.instances() == {}


def test_peers(net: gvm.LocalNetwork) -> None:
    peer = net.node.connect("node-2")
    module = peer.module("slow")
    peer.disconnect()
    assert not peer.connected
    for ask in (
        lambda: peer.run("slow.add", 1, 2), lambda: peer.module("slow"), lambda: peer.spawn("counter"), peer.disconnect,
        lambda: module.add(1, 2),
    ):
        with pytest.raises(gvm.NodeNotConnected):
            ask()


def test_with_and_async_with(net: gvm.LocalNetwork) -> None:
    async def main() -> None:
        async with gvm.LocalNetwork(nodes=1) as inner:
            stock(inner)
            async with gvm.Pool(inner.nodes) as pool:
                assert await pool.submit.aio("slow.add", 1, 2) == 3
                last = pool.submit("slow.work", 7, 1_000_000)
            # Like other executors, the pool waited for its calls.
            assert last.done() and last.result(0) == 7
            async with gvm.Node("another", home=inner.home) as node, await node.spawn.aio("counter") as counter:
                assert await counter.increment.aio() == 1
            assert node.closed
        assert not inner.home.exists()

    asyncio.run(main())
