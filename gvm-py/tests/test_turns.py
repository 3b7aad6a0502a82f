"""More calls at once than a node accepts wait for a slot in this process, whatever makes them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import gvm
import pytest

from conftest import Heard, stock

MOST = 500
"""How many calls of one node run on one node at once."""


@pytest.fixture
def net() -> Iterator[gvm.LocalNetwork]:
    with gvm.LocalNetwork(nodes=2) as net:
        stock(net)
        yield net


@pytest.fixture(params=["here", "there"])
def peer(request: pytest.FixtureRequest, net: gvm.LocalNetwork) -> gvm.Node | gvm.Peer:
    """The node that runs the calls: the node itself, or a connected one."""
    return net.node if request.param == "here" else net.node.connect("node-2")


def test_gather(peer: gvm.Node | gvm.Peer) -> None:
    async def main() -> list[int]:
        add = peer.module("slow").add
        return await asyncio.gather(*(add.aio(n, n) for n in range(3 * MOST)))

    assert asyncio.run(main()) == [2 * n for n in range(3 * MOST)]


def test_live_instances(peer: gvm.Node | gvm.Peer) -> None:
    async def main() -> list[int]:
        async with await peer.spawn.aio("counter") as counter:
            return await asyncio.gather(*(counter.increment.aio() for _ in range(2 * MOST)))

    assert sorted(asyncio.run(main())) == list(range(1, 2 * MOST + 1))


def test_runs_by_name_and_mains(net: gvm.LocalNetwork, peer: gvm.Node | gvm.Peer) -> None:
    async def main() -> list[object]:
        calls = [net.node.run.aio(peer.name, "slow.add(1, 2)") for _ in range(MOST)]
        calls += [net.node.run.aio(peer.name, "slow.add", 1, 2) for _ in range(MOST)]
        calls += [net.node.run.aio(peer.name, "math", stdout=lambda _: None) for _ in range(MOST)]
        return await asyncio.gather(*calls)

    assert asyncio.run(main()) == [3] * (2 * MOST) + [None] * MOST


def test_pools(peer: gvm.Node | gvm.Peer) -> None:
    with gvm.Pool([peer], in_flight=4 * MOST) as pool:
        sums = pool.map("slow.add", range(4 * MOST), range(4 * MOST))
        assert list(sums) == [2 * n for n in range(4 * MOST)]


def full(peer: gvm.Node | gvm.Peer, heard: Heard, count: int = MOST) -> list[asyncio.Task[object]]:
    """Starts as many calls as there are slots."""
    wait = peer.module("sleeps", stdout=heard).for_ever
    return [asyncio.ensure_future(wait.aio(n)) for n in range(count)]


def test_who_waits_goes_on_and_can_be_cancelled(peer: gvm.Node | gvm.Peer) -> None:
    add, heard = peer.module("slow").add, Heard()

    async def main() -> None:
        running = full(peer, heard)
        await asyncio.to_thread(heard.wait, MOST)
        waiting = [asyncio.ensure_future(add.aio(n, n)) for n in range(10)]
        threads = ThreadPoolExecutor(2)
        blocked = asyncio.get_running_loop().run_in_executor(threads, add, 3, 4)
        done, _ = await asyncio.wait([*waiting, blocked], timeout=0.2)
        assert not done
        # Waiting calls are cancelled at once, and the calls behind them move up.
        for task in waiting[:5]:
            task.cancel()
        done, _ = await asyncio.wait(waiting[:5], timeout=5)
        assert len(done) == 5
        running.pop().cancel()
        assert await asyncio.gather(*waiting[5:]) == [2 * n for n in range(5, 10)]
        assert await blocked == 7
        # All slots become free at once, and all are used again at once.
        for task in running:
            task.cancel()
        assert await asyncio.gather(*(add.aio(n, n) for n in range(2 * MOST))) == [2 * n for n in range(2 * MOST)]
        await asyncio.gather(*running, return_exceptions=True)
        threads.shutdown()

    asyncio.run(main())


def test_time_begins_with_the_turn(peer: gvm.Node | gvm.Peer) -> None:
    add, heard = peer.module("slow", timeout=30).add.options(timeout=0.5), Heard()
    # The module is compiled now, so the timeout measures only the call.
    assert peer.module("slow").add(1, 2) == 3

    async def main() -> None:
        running = full(peer, heard)
        await asyncio.to_thread(heard.wait, MOST)
        late = asyncio.ensure_future(add.aio(1, 2))
        done, _ = await asyncio.wait([late], timeout=1)
        assert not done
        for task in running:
            task.cancel()
        assert await late == 3

    asyncio.run(main())


def test_a_call_within_a_call_does_not_wait(peer: gvm.Node | gvm.Peer) -> None:
    """If calls that wait for it hold all slots, it would wait forever for one."""
    add, heard = peer.module("slow").add, Heard()
    got: list[int] = []
    enough = threading.Event()

    def again(text: str) -> None:
        got.append(add(1, 2))
        enough.set()

    async def main() -> None:
        running = full(peer, heard, MOST - 1)
        await asyncio.to_thread(heard.wait, MOST - 1)
        last = asyncio.ensure_future(peer.module("sleeps", stdout=again).for_ever.aio(1))
        await asyncio.to_thread(enough.wait, 20)
        assert got == [3]
        last.cancel()
        for task in running:
            task.cancel()
        await asyncio.gather(last, *running, return_exceptions=True)

    asyncio.run(main())


def test_other_nodes_are_not_held_up(net: gvm.LocalNetwork, peer: gvm.Node | gvm.Peer) -> None:
    heard = Heard()

    async def main() -> None:
        running = full(peer, heard)
        await asyncio.to_thread(heard.wait, MOST)
        begun = time.monotonic()
        with gvm.Node("third", home=net.home):
            third = await net.node.connect.aio("third")
            assert await third.run.aio("slow.add", 1, 2) == 3
        assert time.monotonic() - begun < 10
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(main())
    assert peer.module("slow").add(1, 2) == 3
