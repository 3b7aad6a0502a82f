"""Small tasks of a pool, which go to a node in groups."""

from __future__ import annotations

import collections
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import gvm
import pytest

from conftest import ended, python, soon, stock
from test_interrupts import SETUP

HERE = str(Path(__file__).parent)


@pytest.fixture
def pool(net: gvm.LocalNetwork) -> Iterator[gvm.Pool]:
    """A pool that knows that `slow.add` is fast. Its second node is reached over a connection."""
    with gvm.Pool([net.nodes[0], net.nodes[0].connect("node-2")]) as pool:
        warm(pool)
        yield pool


def warm(pool: gvm.Pool) -> None:
    def fast() -> bool:
        assert list(pool.map("slow.add", range(50), range(50))) == [2 * n for n in range(50)]
        return all(place.is_fast("slow.add") for place in pool._work.places)

    soon(fast)


def busy(pool: gvm.Pool) -> list[int]:
    return [place.busy for place in pool._work.places]


def test_results_are_in_order(pool: gvm.Pool) -> None:
    assert list(pool.map("slow.add", range(5000), range(5000))) == [2 * n for n in range(5000)]
    assert list(pool.map("slow.add", range(5000), range(5000), chunksize=70)) == [2 * n for n in range(5000)]
    futures = [pool.submit("slow.add", n, 1) for n in range(1000)]
    assert [future.result(20) for future in futures] == list(range(1, 1001))
    assert busy(pool) == [0, 0] and not pool._work.running


def test_an_error_in_a_group(pool: gvm.Pool) -> None:
    """The other tasks of the group end as if the error had not been."""
    arguments = [(n, 1) if n % 10 else (n, "x") for n in range(1000)]
    futures = [pool.submit("slow.add", *each) for each in arguments]
    for (n, given), future in zip(arguments, futures):
        error = future.exception(20)
        assert isinstance(error, gvm.BadArguments) if given == "x" else future.result() == n + 1
    traps = [pool.submit("slow.trap-odd", n) for n in range(400)]
    assert [type(future.exception(20)) for future in traps] == [type(None), gvm.Trap] * 200
    results = pool.starmap("slow.add", arguments[1:])
    with pytest.raises(gvm.BadArguments, match="expected s32") as raised:
        list(results)
    assert raised.value.index == 9 and raised.value.arguments == (10, "x")
    soon(lambda: busy(pool) == [0, 0])


def test_an_argument_that_raises(pool: gvm.Pool) -> None:
    class Bad:
        def __index__(self) -> int:
            raise LookupError("no number")

    class Ends:
        def __index__(self) -> int:
            raise KeyboardInterrupt

    futures = [pool.submit("slow.add", n if n % 7 else Bad(), 0) for n in range(1, 100)]
    assert sum(future.exception(20) is not None for future in futures) == 14
    with pytest.raises(KeyboardInterrupt):
        pool.submit("slow.add", Ends(), 0)
    assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
    soon(lambda: busy(pool) == [0, 0])


def test_cancelling_in_a_group(pool: gvm.Pool) -> None:
    for _ in range(20):
        futures = [pool.submit("slow.add", n, n) for n in range(300)]
        cancelled = {n for n in range(0, 300, 3) if futures[n].cancel()}
        for n, future in enumerate(futures):
            assert future.cancelled() if n in cancelled else future.result(20) == 2 * n
        results = pool.map("slow.add", range(2000), range(2000))
        assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
        results.close()
    soon(lambda: busy(pool) == [0, 0] and not pool._work.waiting())


def test_each_future_ends_once(pool: gvm.Pool) -> None:
    ends: collections.Counter[int] = collections.Counter()
    futures = [pool.submit("slow.add", n, n) for n in range(2000)]
    for n, future in enumerate(futures):
        future.add_done_callback(lambda _, n=n: ends.update([n]))
    assert [future.result(20) for future in futures] == [2 * n for n in range(2000)]
    soon(lambda: len(ends) == 2000)
    assert set(ends.values()) == {1}


def test_tasks_that_become_slow_are_spread(net: gvm.LocalNetwork) -> None:
    """Tasks that wait behind slow ones run on the node that is free."""
    with gvm.Pool(net.nodes[:2], in_flight=1) as pool:
        for _ in range(20):
            list(pool.map("slow.work", range(50), [10] * 50))
        soon(lambda: list(pool.map("slow.work", range(9), [10] * 9)) and pool._work.places[0].is_fast("slow.work"))
        begun = time.monotonic()
        stuck = pool.submit("slow.work", 1, 2_000_000_000)
        futures = [pool.submit("slow.work", n, 10) for n in range(500)]
        assert [future.result(20) for future in futures] == list(range(500))
        assert not stuck.done() and time.monotonic() - begun < 10
        assert stuck.cancel()


def test_slow_tasks_are_bounded(net: gvm.LocalNetwork) -> None:
    with gvm.Pool(net.nodes, in_flight=2) as pool:
        warm(pool)
        futures = [pool.submit("slow.work", n, 20_000_000) for n in range(30)]
        most = 0
        while not all(future.done() for future in futures):
            most = max(most, *busy(pool))
            time.sleep(0.001)
        assert most <= 2 and all(future.result() == n for n, future in enumerate(futures))


def test_closing_with_groups(net: gvm.LocalNetwork) -> None:
    pool = gvm.Pool(net.nodes)
    warm(pool)
    futures = [pool.submit("slow.add", n, n) for n in range(5000)]
    pool.close()
    assert all(future.done() for future in futures)
    for n, future in enumerate(futures):
        assert future.cancelled() or isinstance(future.exception(), gvm.Cancelled) or future.result() == 2 * n
    again = gvm.Pool(net.nodes)
    warm(again)
    futures = [again.submit("slow.add", n, n) for n in range(2000)]
    again.shutdown()
    assert [future.result(0) for future in futures] == [2 * n for n in range(2000)]


def test_threads_submit_groups(pool: gvm.Pool) -> None:
    got: list[list[int]] = []

    def run() -> None:
        got.append([future.result(30) for future in [pool.submit("slow.add", n, n) for n in range(300)]])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [[2 * n for n in range(300)]] * 8


def test_a_node_is_killed_with_a_group() -> None:
    """Tasks that the node has not started run on the other one, also without `retry`."""
    with gvm.LocalNetwork(nodes=2, processes=True) as net:
        stock(net)
        warm(net.pool)
        futures = [net.submit("slow.add", n, n) for n in range(20_000)]
        os.kill(net.processes[1].pid, signal.SIGKILL)
        lost = 0
        for n, future in enumerate(futures):
            error = future.exception(60)
            if error is None:
                assert future.result() == 2 * n
            else:
                assert isinstance(error, gvm.NodeDown) and error.outcome == "unknown"
                lost += 1
        assert lost <= 2 * (os.cpu_count() or 1) + 4


def test_ctrl_c_in_a_group() -> None:
    process = python(SETUP + """
    with gvm.LocalNetwork(nodes=2) as net:
        stock(net)
        list(net.pool.map("slow.add", range(500), range(500)))
        for _ in range(3):
            print("mapping", flush=True)
            try:
                while True:
                    assert list(net.pool.map("slow.add", range(2000), range(2000))) == list(range(0, 4000, 2))
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            assert list(net.pool.map("slow.add", range(100), range(100))) == list(range(0, 200, 2))
    print("closed", flush=True)
    """, HERE)
    assert process.stdout is not None
    for _ in range(3):
        assert process.stdout.readline() == "mapping\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    status, out, err = ended(process)
    assert (status, out) == (0, "closed\n"), err
