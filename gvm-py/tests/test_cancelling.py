"""Cancelled and abandoned work stops, wherever it runs, and frees its slot in the pool."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import gvm
import pytest

from conftest import WAT, Heard, busy, ended, python, soon
from test_interrupts import HERE, SETUP


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(params=["here", "there"])
def pool(request: pytest.FixtureRequest, net: gvm.LocalNetwork, peer: gvm.Peer, heard: Heard) -> Iterator[gvm.Pool]:
    """A pool with one slot, on a node of this process or on a peer."""
    pool = gvm.Pool([net.node if request.param == "here" else peer], in_flight=1, stdout=heard)
    yield pool
    pool.close()


def check_free(pool: gvm.Pool) -> None:
    """The slot is free at once, and no guest runs any more."""
    assert pool.submit("waits.one").result(5) == 1
    soon(lambda: not pool._work.running)
    soon(lambda: not busy())


def test_a_running_future_is_cancelled(pool: gvm.Pool, heard: Heard) -> None:
    called: list[object] = []
    future = pool.submit("waits.for-ever", 1)
    future.add_done_callback(called.append)
    heard.wait(1)
    assert future.running() and "running" in repr(future)
    begun = time.monotonic()
    assert future.cancel() and future.cancel()
    assert future.cancelled() and future.done() and not future.running() and called == [future]
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(0)
    # Waiters are notified too.
    assert concurrent.futures.wait([future], timeout=1).done == {future}
    assert [*pool.as_completed([future], timeout=1)] == [future]
    assert pool.submit("waits.one").result(5) == 1
    assert time.monotonic() - begun < 2
    check_free(pool)
    done = pool.submit("waits.one")
    assert done.result(5) == 1 and not done.cancel() and not done.cancelled()


def test_it_is_quick(net: gvm.LocalNetwork, heard: Heard) -> None:
    took: list[float] = []
    while len(took) < 6 and not (took and took[-1] < 0.2):
        with gvm.Pool(net.nodes[:1], in_flight=1, stdout=heard) as pool:
            future = pool.submit("waits.for-ever", 1)
            heard.wait(len(took) + 1)
            begun = time.monotonic()
            future.cancel()
            pool.submit("waits.one").result(5)
            took.append(time.monotonic() - begun)
    # The limit is 200 ms, but other programs on this machine may delay some of the attempts.
    assert min(took) < 0.2, took


def run_out(results: gvm.Results, heard: Heard) -> None:
    with pytest.raises(gvm.Timeout, match="only 0 of 3 results of `waits.for-ever` arrived within 0.3 s") as raised:
        next(results)
    assert isinstance(raised.value, TimeoutError) and raised.value.help == "pass a larger `timeout`"
    assert [*results] == []


def close(results: gvm.Results, heard: Heard) -> None:
    heard.wait(1)
    results.close()
    results.close()
    with pytest.raises(gvm.Closed):
        next(results)


def interrupt(results: gvm.Results, heard: Heard) -> None:
    def later() -> None:
        heard.wait(1)
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident
    assert main is not None
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Thread(target=later).start()
            list(results)
    finally:
        signal.signal(signal.SIGINT, was)


@pytest.mark.parametrize("end", [run_out, close, interrupt])
@pytest.mark.parametrize("several", ["map", "starmap"])
def test_maps_that_end_early(
    pool: gvm.Pool, heard: Heard, several: str, end: Callable[[gvm.Results, Heard], None]
) -> None:
    timeout = 0.3 if end is run_out else None
    items: list[Any] = [1, 2, 3] if several == "map" else [(1,), (2,), (3,)]
    end(getattr(pool, several)("waits.for-ever", items, timeout=timeout), heard)
    check_free(pool)
    # None of the other calls started meanwhile.
    assert heard.count == 1


@pytest.mark.parametrize("taken", [False, True])
def test_a_map_that_is_dropped(pool: gvm.Pool, heard: Heard, taken: bool) -> None:
    """Its calls stop, also if no result was ever taken."""
    results = pool.map("waits.one", [()], timeout=1)
    del results
    results = iter(pool.starmap("waits.for-ever", [(1,), (2,)]))
    heard.wait(1)
    if taken:
        with pytest.raises(TimeoutError):
            results._tasks[0][1].future.result(0.01)  # type: ignore[attr-defined]
    del results
    check_free(pool)


def test_a_map_that_fails_cancels_the_rest(pool: gvm.Pool) -> None:
    results = pool.map("slow.trap-odd", [0, 2, 3, 5, 6])
    assert [next(results), next(results)] == [0, 2]
    with pytest.raises(gvm.Trap) as raised:
        next(results)
    assert raised.value.index == 2 and raised.value.arguments == (3,)
    assert raised.value.__notes__ == ["in item 2: slow.trap-odd(3)"]
    assert [*results] == []
    check_free(pool)


def test_wrapped_futures(pool: gvm.Pool, heard: Heard) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(pool.submit("waits.for-ever", 1)), 0.2)
        check_free(pool)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pool.submit.aio("waits.for-ever", 1), 0.2)
        check_free(pool)
        assert await pool.submit.aio("slow.add", 1, 2) == 3
        with pytest.raises(gvm.Trap):
            await pool.submit.aio("slow.trap-odd", 1)

    asyncio.run(main())


@pytest.mark.parametrize("waits", [False, True])
def test_shutdown_that_cancels(net: gvm.LocalNetwork, heard: Heard, waits: bool) -> None:
    pool = gvm.Pool(net.nodes[:1], in_flight=1, stdout=heard)
    futures = [pool.submit("waits.for-ever", n) for n in range(5)]
    heard.wait(1)
    pool.shutdown(wait=waits, cancel_futures=True)
    assert all(future.cancelled() for future in futures)
    assert not pool._work.running and heard.count == 1
    soon(lambda: not busy())


def test_leaving_by_an_interrupt(net: gvm.LocalNetwork, heard: Heard) -> None:
    with pytest.raises(KeyboardInterrupt):
        with gvm.Pool(net.nodes[:1], stdout=heard) as pool:
            future = pool.submit("waits.for-ever", 1)
            heard.wait(1)
            raise KeyboardInterrupt
    assert isinstance(future.exception(0), gvm.Cancelled)


def test_a_pool_that_nobody_has(net: gvm.LocalNetwork, heard: Heard) -> None:
    pool = gvm.Pool(net.nodes[:1], stdout=heard)
    thread = pool._work._thread
    pool.submit("waits.for-ever", 1)
    heard.wait(1)
    del pool
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()
    soon(lambda: not busy())
    # A future keeps the pool alive.
    future = gvm.Pool(net.nodes[:1]).submit("slow.work", 7, 1_000_000)
    gc.collect()
    assert future.result(20) == 7


def test_cancelling_many_at_once(net: gvm.LocalNetwork, heard: Heard) -> None:
    """Every slot is free again, and every future has ended once."""
    with gvm.Pool(net.nodes, in_flight=2, stdout=heard) as pool:
        ends: list[object] = []
        futures = [pool.submit("waits.for-ever", n) for n in range(60)]
        for future in futures:
            future.add_done_callback(ends.append)
        heard.wait(6)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            assert all(threads.map(lambda future: future.cancel(), futures))
        assert len(ends) == 60 == len({*map(id, ends)})
        assert [place.busy for place in pool._work.places] == [0, 0, 0]
        assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]


def dropped(coroutine: Any) -> None:
    """Starts a coroutine by hand, and drops it."""
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        assert coroutine.send(None) is not None

    loop.run_until_complete(begin())
    coroutine.close()
    loop.close()


@pytest.mark.parametrize(
    "ask",
    [
        lambda place, heard: place.module("waits", stdout=heard).for_ever.aio(1),
        lambda place, heard: place.run.aio("waits.for-ever", 1, stdout=heard)
        if isinstance(place, gvm.Peer) else place.run.aio(None, "waits.for-ever", 1, stdout=heard),
    ],
)
def test_coroutines_that_are_dropped(place: gvm.Node | gvm.Peer, heard: Heard, ask: Callable[..., Any]) -> None:
    async def waits() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ask(place, heard), 0.2)

    asyncio.run(waits())
    soon(lambda: not busy())
    dropped(ask(place, heard))
    soon(lambda: not busy())


@pytest.fixture(scope="module")
def looping() -> Iterator[gvm.LocalNetwork]:
    """Two nodes, and a module whose start code never ends."""
    with gvm.LocalNetwork(nodes=2) as net:
        net.upload("counter", "1.0.0", WAT / "counter.wat")
        net.upload("start-loop", "1.0.0", WAT / "start-loop.wat")
        yield net


@pytest.fixture(params=["here", "there"])
def spawner(request: pytest.FixtureRequest, looping: gvm.LocalNetwork) -> gvm.Node | gvm.Peer:
    return looping.node if request.param == "here" else looping.node.connect("node-2")


def test_spawns_that_take_for_ever(looping: gvm.LocalNetwork, spawner: gvm.Node | gvm.Peer) -> None:
    """Spawns end with their time limit, their task, their coroutine, and by Ctrl-C."""
    begun = time.monotonic()
    with pytest.raises(gvm.Timeout, match="500ms"):
        spawner.spawn("start-loop", timeout=0.5)
    assert time.monotonic() - begun < 4

    async def waits() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(spawner.spawn.aio("start-loop"), 0.2)

    asyncio.run(waits())
    soon(lambda: not busy())
    dropped(spawner.spawn.aio("start-loop"))
    soon(lambda: not busy())
    main = threading.main_thread().ident
    assert main is not None
    was = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT)).start()
            spawner.spawn("start-loop")
    finally:
        signal.signal(signal.SIGINT, was)
    soon(lambda: not busy())
    assert looping.node.instances() == {}


def test_spawns_that_nobody_takes(looping: gvm.LocalNetwork, spawner: gvm.Node | gvm.Peer) -> None:
    """Cancelled spawns leave no instance, at any stage, here or on another node."""

    async def main() -> None:
        for round in range(300):
            task = asyncio.ensure_future(spawner.spawn.aio("counter"))
            end = time.monotonic() + round % 30 / 10_000
            while time.monotonic() < end:
                await asyncio.sleep(0)
            task.cancel()
            try:
                await (await task).close.aio()
            except asyncio.CancelledError:
                pass

    def none() -> bool:
        gc.collect()
        return looping.node.instances() == {}

    asyncio.run(main())
    soon(none)
    # The maximum number fits, so no instance is left without an owner.
    live = [spawner.spawn("counter") for _ in range(64)]
    for instance in live:
        instance.close()


def test_ctrl_c_in_a_map() -> None:
    """After a real Ctrl-C in a separate process, the guests in other processes stop, and the pool still works."""
    process = python(SETUP + """
    import conftest
    with gvm.LocalNetwork(nodes=2, processes=True) as net:
        stock(net)
        heard = conftest.Heard()
        pool = gvm.Pool(net.nodes, in_flight=2, stdout=heard)
        def told():
            heard.wait(4)
            print("running", flush=True)
        threading.Thread(target=told).start()
        try:
            list(pool.map("waits.for-ever", range(12)))
        except KeyboardInterrupt:
            print("interrupted", time.monotonic(), flush=True)
        assert [place.busy for place in pool._work.places] == [0, 0]
        assert [*pool.map("slow.add", range(9), range(9))] == [2 * n for n in range(9)]
        for child in net.processes:
            conftest.soon(lambda: not conftest.busy(child.pid))
        pool.shutdown()
    print("closed", flush=True)
    """, HERE)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    word, moment = process.stdout.readline().split()
    assert word == "interrupted" and float(moment) - begun < 2
    status, out, err = ended(process)
    assert (status, out) == (0, "closed\n"), err
