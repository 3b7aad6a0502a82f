"""Pools: the interface of `concurrent.futures`, the choice of nodes, and nodes that are lost."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import gvm
import pytest

from conftest import stock


@pytest.fixture
def pool(net: gvm.LocalNetwork) -> Iterator[gvm.Pool]:
    with gvm.Pool(net.nodes) as pool:
        yield pool


@pytest.fixture
def children() -> Iterator[gvm.LocalNetwork]:
    with gvm.LocalNetwork(nodes=3, processes=True) as net:
        stock(net)
        yield net


def test_its_an_executor(pool: gvm.Pool) -> None:
    assert isinstance(pool, concurrent.futures.Executor)
    future = pool.submit("slow.add", 1, 2)
    assert isinstance(future, concurrent.futures.Future) and future.result(10) == 3
    assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
    assert list(pool.map("slow.add", range(100), range(100), chunksize=7)) == [2 * n for n in range(100)]
    assert list(pool.starmap("slow.add", [(1, 2), (3, 4)])) == [3, 7]
    futures = [pool.submit("slow.add", n, 0) for n in range(20)]
    assert sorted(f.result() for f in pool.as_completed(futures, timeout=10)) == list(range(20))
    done, _ = concurrent.futures.wait(futures)
    assert len(done) == 20 and list(pool.map("slow.add", [], [])) == []


def test_errors_are_the_futures(pool: gvm.Pool) -> None:
    assert isinstance(pool.submit("slow.add", 1, "2").exception(10), gvm.BadArguments)
    assert isinstance(pool.submit("slow.add", 1).exception(10), gvm.BadArguments)
    assert isinstance(pool.submit("slow.none").exception(10), gvm.FunctionNotFound)
    assert isinstance(pool.submit("none.such").exception(10), gvm.ModuleNotFound)
    assert isinstance(pool.submit("slow.trap-odd", 1).exception(10), gvm.Trap)
    results = pool.map("slow.trap-odd", range(4))
    assert next(results) == 0
    with pytest.raises(gvm.Trap):
        next(results)
    with pytest.raises(TypeError, match="the name of a function"):
        pool.submit(print)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        pool.map("slow.add", [1], chunksize=0)
    with pytest.raises(ValueError):
        gvm.Pool([])


def test_time_runs_out(pool: gvm.Pool) -> None:
    slow = pool.map("slow.work", [1] * 200, [50_000_000] * 200, timeout=0.3)
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        list(slow)
    assert time.monotonic() - begun < 5
    with gvm.Pool([pool._work.places[0].node], timeout=0.1) as short:
        assert isinstance(short.submit("spin.spin").exception(10), gvm.Timeout)


def test_it_shuts_down(net: gvm.LocalNetwork) -> None:
    pool = gvm.Pool(net.nodes, in_flight=1)
    futures = [pool.submit("slow.work", n, 30_000_000) for n in range(50)]
    pool.shutdown(cancel_futures=True)
    states = collections.Counter(future.cancelled() for future in futures)
    assert states[True] >= 40 and all(future.done() for future in futures)
    assert all(future.cancelled() or future.result() == n for n, future in enumerate(futures))
    with pytest.raises(RuntimeError):
        pool.submit("slow.add", 1, 2)
    pool.shutdown()
    waited = gvm.Pool(net.nodes)
    futures = [waited.submit("slow.work", n, 1_000_000) for n in range(50)]
    waited.shutdown()
    assert [future.result(0) for future in futures] == list(range(50))
    late = gvm.Pool(net.nodes)
    futures = [late.submit("slow.work", n, 1_000_000) for n in range(50)]
    late.shutdown(wait=False)
    assert [future.result(10) for future in futures] == list(range(50))


def test_closing_takes_back_what_runs(net: gvm.LocalNetwork) -> None:
    pool = gvm.Pool(net.nodes, in_flight=1)
    futures = [pool.submit("spin.spin") for _ in range(10)]
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 2
    assert sum(future.cancelled() for future in futures) == 7
    assert all(isinstance(future.exception(0), gvm.Cancelled) for future in futures[:3])
    pool.close()


def test_cancelling_what_waits(net: gvm.LocalNetwork) -> None:
    with gvm.Pool(net.nodes[:1], in_flight=1) as pool:
        first = pool.submit("slow.work", 1, 100_000_000)
        second = pool.submit("slow.add", 1, 2)
        assert second.cancel() and second.cancelled()
        assert first.result(20) == 1 and not first.cancel()


def test_work_is_spread_and_bounded(net: gvm.LocalNetwork) -> None:
    with gvm.Pool(net.nodes, in_flight=2) as pool:
        futures = [pool.submit("slow.work", n, 20_000_000) for n in range(30)]
        most = 0
        while not all(future.done() for future in futures):
            busy = [place.busy for place in pool._work.places]
            most = max(most, *busy)
            time.sleep(0.001)
        assert 1 <= most <= 2
        assert sum(place.done for place in pool._work.places) == 30 and all(place.done >= 5 for place in pool._work.places)
        assert "node-1" in repr(pool)


def test_futures_call_back_and_submit_more(pool: gvm.Pool) -> None:
    got: list[int] = []
    enough = threading.Event()

    def again(future: concurrent.futures.Future[int]) -> None:
        got.append(future.result())
        if future.result() < 50:
            pool.submit("slow.add", future.result(), 1).add_done_callback(again)
        else:
            enough.set()

    pool.submit("slow.add", 0, 0).add_done_callback(again)
    assert enough.wait(20) and got == list(range(51))


def test_many_threads_submit(pool: gvm.Pool) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as threads:
        sums = threads.map(lambda n: pool.submit("slow.add", n, n).result(), range(400))
        assert list(sums) == [2 * n for n in range(400)]


def test_output_comes_from_where_it_was_submitted(pool: gvm.Pool) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert list(pool.map("math.add", range(5), range(5))) == [0, 2, 4, 6, 8]
    assert out.getvalue() == "Adding Numbers From Wasm...\n" * 5


def test_progress(pool: gvm.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(pool.map("slow.add", range(30), range(30), progress=True))[-1] == 58
    shown = capsys.readouterr().err
    assert "slow.add" in shown and "30/30" in shown


def test_any_set_of_nodes(net: gvm.LocalNetwork, peer: gvm.Peer) -> None:
    with gvm.Pool([net.node, peer, net.nodes[2]]) as pool:
        assert list(pool.map("slow.work", range(30), [3_000_000] * 30)) == list(range(30))
        assert all(place.done for place in pool._work.places)


class Counted:
    """Counts how often each future ends, to find futures that end twice or never."""

    def __init__(self, futures: list[Any]) -> None:
        self.ends: collections.Counter[int] = collections.Counter()
        for n, future in enumerate(futures):
            future.add_done_callback(lambda _, n=n: self.ends.update([n]))


@pytest.mark.parametrize("retry", [False, True])
def test_a_node_is_killed(children: gvm.LocalNetwork, retry: bool) -> None:
    tasks = 10_000
    list(children.map("slow.work", range(30), [100] * 30))
    # All of them take longer than it takes to submit them, so the node is killed while it runs some.
    futures = [children.submit("slow.work", n, 500_000, retry=retry) for n in range(tasks)]
    counted = Counted(futures)
    while sum(future.done() for future in futures) < tasks // 10:
        time.sleep(0.01)
    os.kill(children.processes[1].pid, signal.SIGKILL)
    assert not all(future.done() for future in futures)
    lost = 0
    for n, future in enumerate(futures):
        error = future.exception(120)
        if error is None:
            assert future.result() == n
        else:
            assert isinstance(error, gvm.NodeDown) and error.outcome == "unknown"
            lost += 1
    assert len(counted.ends) == tasks and set(counted.ends.values()) == {1}
    assert lost == 0 if retry else lost <= 2 * (os.cpu_count() or 1) + 4
    assert children.pool.nodes == ["node-1", "node-3"]


def test_killed_under_map_with_retry(children: gvm.LocalNetwork) -> None:
    results = children.map("slow.work", range(3000), [50_000] * 3000, retry=True, chunksize=10)
    head = [next(results) for _ in range(100)]
    for process in children.processes[:2]:
        os.kill(process.pid, signal.SIGKILL)
    assert head + list(results) == list(range(3000))


def test_no_node_is_left(children: gvm.LocalNetwork) -> None:
    futures = [children.submit("slow.work", n, 10_000_000, retry=True) for n in range(300)]
    for process in children.processes:
        os.kill(process.pid, signal.SIGKILL)
    for future in futures:
        error = future.exception(60)
        assert error is None or isinstance(error, gvm.NodeDown)
    assert isinstance(futures[-1].exception(), gvm.NodeDown)
    late = children.submit("slow.add", 1, 2).exception(10)
    assert isinstance(late, gvm.NodeDown) and late.outcome == "not-started"


def test_a_lost_node_is_an_event(children: gvm.LocalNetwork) -> None:
    events = children.node.events()
    os.kill(children.processes[0].pid, signal.SIGKILL)
    event = events.get(timeout=20)
    assert event is not None and (event.kind, event.node) == ("down", "node-1")
    assert children.node.list() == ["node-2", "node-3"]
