"""Many callers at once: threads, tasks, and cancelled calls."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gvm
import pytest


def test_threads_share_a_node(place: gvm.Node | gvm.Peer) -> None:
    lists = place.module("lists")
    start = threading.Barrier(32)

    def calls(n: int) -> list[int]:
        start.wait()
        return [lists.add(n, i) for i in range(200)]

    with ThreadPoolExecutor(32) as threads:
        for n, sums in enumerate(threads.map(calls, range(32))):
            assert sums == [n + i for i in range(200)]


def test_threads_share_an_instance(place: gvm.Node | gvm.Peer) -> None:
    with place.spawn("counter", stdout=lambda _: None) as counter, ThreadPoolExecutor(16) as threads:
        counts = threads.map(lambda _: counter.increment(), range(500))
        assert sorted(counts) == list(range(1, 501))


def test_a_thousand_tasks(place: gvm.Node | gvm.Peer) -> None:
    lists = place.module("lists")

    async def main() -> list[int]:
        return await asyncio.gather(*(lists.add.aio(n, n) for n in range(1000)))

    assert asyncio.run(main()) == [2 * n for n in range(1000)]


def test_the_gil_is_released(place: gvm.Node | gvm.Peer) -> None:
    """Other Python threads run while a guest runs."""
    slow = place.module("slow")
    running = threading.Thread(target=slow.work, args=(1, 400_000_000))
    running.start()
    turns = 0
    while running.is_alive():
        turns += 1
        time.sleep(0.001)
    assert turns > 20


def test_twins(net: gvm.LocalNetwork) -> None:
    async def main() -> None:
        async with gvm.Node("twin", home=net.home) as node:
            assert "twin" in await node.discover.aio()
            peer = await node.connect.aio("node-1")
            assert await node.list.aio() == ["node-1"]
            assert await node.run.aio("node-1", "math.add", 1, 2) == 3
            assert await peer.run.aio("math.add(1, 2)") == 3
            lists = await peer.module.aio("lists")
            assert await lists.bytes.aio(b"abc") == b"abc"
            async with await peer.spawn.aio("counter") as counter:
                assert await counter.increment.aio() == 1
            with pytest.raises(gvm.BadArguments):
                await lists.add.aio(1, "2")
            with pytest.raises(gvm.ModuleNotFound):
                await peer.module.aio("none-such")
            task = asyncio.create_task(lists.add.aio(3, 4))
            async with asyncio.TaskGroup() as group:
                group.create_task(lists.add.aio(3, 4))
            assert await task == 7
            await node.disconnect.aio("node-1")

    asyncio.run(main())


def test_cancelling_a_task_stops_the_guest(net: gvm.LocalNetwork, place: gvm.Node | gvm.Peer) -> None:
    async def main() -> float:
        spinner = await place.spawn.aio("spin")
        task = asyncio.create_task(spinner.spin.aio())
        await asyncio.sleep(0.1)
        begun = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # The next call of the instance waits for this one, so it fails only after the guest has stopped.
        with pytest.raises(gvm.InstanceNotFound):
            await spinner.spin.aio()
        return time.monotonic() - begun

    assert asyncio.run(main()) < 0.2

    async def in_time() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await place.module("spin").spin.aio()

    asyncio.run(in_time())


def test_loops_come_and_go(node: gvm.Node) -> None:
    lists = node.module("lists")

    async def forgets() -> None:
        asyncio.ensure_future(lists.add.aio(1, 2))
        await asyncio.sleep(0)

    async def remembers() -> int:
        return await lists.add.aio(1, 2)

    for _ in range(20):
        asyncio.run(forgets())
        assert asyncio.run(remembers()) == 3
