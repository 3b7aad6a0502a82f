"""Lost nodes that come back get tasks again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import json
from collections.abc import Iterator
from pathlib import Path

import gvm
import pytest

from conftest import soon, stock


def start(name: str, net: gvm.LocalNetwork) -> subprocess.Popen[bytes]:
    """Starts a node of a network in its own process, under this name."""
    config = {"name": name, "home": str(net.home), "temporary": str(net.home / "none-such")}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "gvm._node", json.dumps(config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        assert b"id" in process.stdout.readline()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait(20)
    assert process.stdin is not None
    process.stdin.close()


@pytest.fixture
def net() -> Iterator[gvm.LocalNetwork]:
    with gvm.LocalNetwork(nodes=1) as net:
        stock(net)
        yield net


def works_on(pool: gvm.Pool, name: str) -> None:
    """Checks that the node of this name gets tasks like the other nodes."""
    [place] = [place for place in pool._work.places if place.name == name]
    done = place.done
    assert list(pool.map("slow.work", range(200), [100_000] * 200)) == list(range(200))
    assert place.done > done


def test_a_node_that_is_started_again(net: gvm.LocalNetwork) -> None:
    process = start("other", net)
    try:
        with gvm.Pool([net.node, net.node.connect("other")], retry=True) as pool:
            works_on(pool, "other")
            os.kill(process.pid, signal.SIGKILL)
            soon(lambda: "other" not in net.node.list())
            assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
            assert pool.nodes == ["node-1"] and "gone" in pool._repr_html_()
            end(process)
            process = start("other", net)
            # The pool reconnects to it by itself.
            soon(lambda: pool.nodes == ["node-1", "other"])
            works_on(pool, "other")
    finally:
        end(process)


def test_the_only_node_of_a_pool(net: gvm.LocalNetwork) -> None:
    """Tasks fail while it is lost. The pool uses it at once after it is connected again."""
    process = start("other", net)
    try:
        with gvm.Pool([net.node.connect("other")]) as pool:
            assert pool.submit("slow.add", 1, 2).result(20) == 3
            os.kill(process.pid, signal.SIGKILL)
            end(process)
            soon(lambda: "other" not in net.node.list())
            with pytest.raises(gvm.NodeDown) as raised:
                pool.submit("slow.add", 1, 2).result(20)
            assert raised.value.outcome == "not-started"
            process = start("other", net)
            net.node.connect("other")
            assert pool.submit("slow.add", 1, 2).result(20) == 3
    finally:
        end(process)


def test_who_was_disconnected_stays_so(net: gvm.LocalNetwork) -> None:
    with gvm.Node("other", home=net.home) as other:
        peer = net.node.connect("other")
        with gvm.Pool([net.node, peer]) as pool:
            works_on(pool, "other")
            peer.disconnect()
            assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
            assert pool.nodes == ["node-1"]
            with pytest.raises(AssertionError):
                soon(lambda: "other" in net.node.list(), within=2)
            # The node works again, whichever side connects.
            other.connect("node-1")
            soon(lambda: pool.nodes == ["node-1", "other"])
            works_on(pool, "other")


def test_who_says_no_is_not_asked_again(net: gvm.LocalNetwork) -> None:
    process = start("other", net)
    try:
        with gvm.Pool([net.node, net.node.connect("other")]) as pool:
            works_on(pool, "other")
            os.kill(process.pid, signal.SIGKILL)
            end(process)
            soon(lambda: "other" not in net.node.list())
            with gvm.Node("other", home=net.home, accept="none"):
                assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
                soon(lambda: pool._work.places[1].denied)
                assert pool.nodes == ["node-1"]
    finally:
        end(process)


def test_no_thread_is_left(net: gvm.LocalNetwork, tmp_path: Path) -> None:
    """A pool that checks for a lost node ends like other pools."""
    process = start("other", net)
    pool = gvm.Pool([net.node, net.node.connect("other")])
    end(process)
    soon(lambda: "other" not in net.node.list())
    assert list(pool.map("slow.add", range(100), range(100))) == [2 * n for n in range(100)]
    thread = pool._work._thread
    pool.shutdown()
    thread.join(10)
    assert not thread.is_alive() and not pool._work._cancellers


def test_retries_are_counted(net: gvm.LocalNetwork) -> None:
    """A task whose node is lost while it runs starts again as often as `retries` allows."""
    for retries, starts in ((0, 1), (1, 2), (2, 3)):
        processes = [start(f"n{n}", net) for n in range(4)]
        try:
            from conftest import Heard

            heard = Heard()
            peers = [net.node.connect(f"n{n}") for n in range(4)]
            with gvm.Pool(peers, in_flight=1, stdout=heard, retries=9) as pool:
                future = pool.submit("waits.for-ever", 1, retries=retries)
                for start_ in range(1, starts + 1):
                    heard.wait(start_)
                    assert not future.done()
                    [place] = [place for place in pool._work.places if place.busy]
                    end(processes[int(place.name[1:])])
                error = future.exception(20)
                assert isinstance(error, gvm.NodeDown) and error.outcome == "unknown" and heard.count == starts
        finally:
            for process in processes:
                end(process)
