"""Options are checked by the call that passes them, and the errors use the terms of Python."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gvm
import numpy
import pytest

NAN, INF = math.nan, math.inf

CALLS: list[tuple[str, Any]] = [
    *(("timeout", wrong) for wrong in (-1, -0.5, NAN, INF, "abc", "", "5 parsecs", True, [], b"1s", object())),
    *(("timeout", wrong) for wrong in (datetime.timedelta(seconds=-1), 1e300, 1j)),
    *(("max_memory", wrong) for wrong in (-1, 1.5, NAN, "much", True, [], 2**64, "-1MiB")),
    *(("max_output", wrong) for wrong in (-1, 1.5, "much", False, {})),
    *(("fuel", wrong) for wrong in (-1, 1.5, "some", True)),
    *(("stdout", wrong) for wrong in (7, "file.txt", True)),
    *(("stderr", wrong) for wrong in (7, "file.txt", [])),
    ("tiemout", 1), ("timeouts", 1), ("retries", 1),
]


def refused(ask: Callable[[], Any], name: str) -> None:
    with pytest.raises(gvm.BadArguments) as raised:
        ask()
    error = raised.value
    assert isinstance(error, TypeError) and isinstance(error, ValueError) and error.outcome == "not-started"
    assert error.message.startswith(f"{name}: ") or repr(name) in error.message or f'"{name}"' in error.message
    # The message does not expose how Rust reads the value.
    assert not any(word in error.message for word in ("Py", "object cannot", "convert", "extract", "u64", "f64"))


@pytest.mark.parametrize("name, wrong", CALLS)
def test_options_of_calls(net: gvm.LocalNetwork, node: gvm.Node, peer: gvm.Peer, name: str, wrong: Any) -> None:
    option = {name: wrong}
    add = node.module("slow").add
    for ask in (
        lambda: gvm.Node(home=net.home, **option), lambda: node.module("slow", **option),
        lambda: node.spawn("counter", **option), lambda: peer.module("slow", **option),
        lambda: peer.spawn("counter", **option), lambda: node.run(None, "slow.add", 1, 2, **option),
        lambda: node.run(None, "slow.add(1, 2)", **option), lambda: node.run(None, "math", **option),
        lambda: peer.run("slow.add", 1, 2, **option), lambda: node.module("math")(**option),
        lambda: add.options(**option),
    ):
        refused(ask, name)
    if name != "retries":
        refused(lambda: gvm.LocalNetwork(nodes=1, **option), name)
        refused(lambda: gvm.LocalNetwork(nodes=1, processes=True, **option), name)
        refused(lambda: gvm.Pool(net.nodes, **option), name)


@pytest.mark.parametrize(
    "name, values",
    [
        ("nodes", [0, -1, "2", "x", 1.5, True, None, NAN]), ("processes", [1, "yes", None]),
        ("accept", [7, ["a", 7], b"all"]), ("dirs", ["/tmp", [7], 7]), ("env", ["A=B", {"A": 1}, {1: "A"}, [("A", "B")]]),
        ("allow_net", ["host:1", [7]]), ("grant", ["nodes", ["everything"], 7]), ("allow_calls", ["math.*", [7]]),
        ("session_time", [-1, NAN, INF, "1h", True]), ("proccesses", [True]), ("name", ["x"]), ("home", ["/x"]),
    ],
)
def test_options_of_networks(name: str, values: list[Any]) -> None:
    for wrong in values:
        if name in ("proccesses", "name", "home"):
            refused(lambda: gvm.LocalNetwork(**{"nodes": 1, name: wrong}), name)
        else:
            refused_in(name, wrong)


def refused_in(name: str, wrong: Any) -> None:
    """Checks a refusal whose message may also name a part of the value."""
    with pytest.raises(gvm.BadArguments, match=rf"^BAD_ARGUMENTS: {name}(\[.+\])?: "):
        gvm.LocalNetwork(**{"nodes": 1, name: wrong})


@pytest.mark.parametrize(
    "name, values",
    [
        ("name", [7, b"x", ["x"]]), ("gpmd", [7]), ("listen", [7]), ("home", [7, []]), ("on_event", [7, "print"]),
        ("accept", [7]), ("dirs", ["/tmp", 7]), ("env", ["A=B"]), ("grant", ["nodes"]), ("session_time", [-1, NAN, "1h"]),
        ("allow_net", ["host:1"]), ("allow_calls", ["math.*"]), ("nmae", ["x"]),
    ],
)
def test_options_of_nodes(net: gvm.LocalNetwork, name: str, values: list[Any]) -> None:
    for wrong in values:
        refused(lambda: gvm.Node(**{"home": net.home, name: wrong}), name)


def test_options_of_pools(net: gvm.LocalNetwork) -> None:
    for name, values in (
        ("in_flight", [0, -1, "8", 1.5, True]), ("retry", ["yes", 1]), ("retries", [-1, 1.5, "2", True]),
        ("nodes", [[], "node-1", net.node, 7, net]),
    ):
        for wrong in values:
            refused(lambda: gvm.Pool(**{"nodes": net.nodes, name: wrong}), name)
    with pytest.raises(gvm.BadArguments, match=r"nodes\[1\]: expected a gvm.Node or a gvm.Peer"):
        gvm.Pool([net.node, "node-2"])  # type: ignore[list-item]
    with pytest.raises(gvm.BadArguments, match="either retry or retries"):
        gvm.Pool(net.nodes, retry=True, retries=2)
    with gvm.Pool(net.nodes, in_flight=numpy.int64(2), retries=numpy.int8(1)) as pool:
        for name, values in (
            ("timeout", [-1, NAN, INF, "abc", "1", True, [], -datetime.timedelta(1)]),
            ("chunksize", [0, -1, "x", 1.5, True]), ("retry", ["yes", 1]), ("retries", [-1, "2", 1.5, True]),
            ("progress", [1, "yes", None]),
        ):
            for wrong in values:
                refused(lambda: pool.map("slow.add", [1], [2], **{name: wrong}), name)
                refused(lambda: pool.starmap("slow.add", [(1, 2)], **{name: wrong}), name)
                if name.startswith("retr"):
                    refused(lambda: pool.submit("slow.add", 1, 2, **{name: wrong}), name)
        refused(lambda: pool.as_completed([], timeout=-1), "timeout")
        refused(lambda: pool.shutdown(wait=1), "wait")  # type: ignore[arg-type]
        refused(lambda: pool.shutdown(cancel_futures="x"), "cancel_futures")  # type: ignore[arg-type]
        refused(lambda: pool.submit("slow.add", retry=True, retries=1), "retries")
        assert list(pool.map("slow.add", [1], [2], timeout=datetime.timedelta(seconds=20), retry=True)) == [3]


def test_arguments_of_nodes(net: gvm.LocalNetwork, node: gvm.Node, peer: gvm.Peer) -> None:
    wrong: Any = 7
    for ask, name in (
        (lambda: node.connect(wrong), "name"), (lambda: node.disconnect(wrong), "name"),
        (lambda: node.revoke(wrong), "name"), (lambda: node.run(wrong, "slow.add", 1, 2), "node"),
        (lambda: node.module(wrong), "name"), (lambda: node.spawn(wrong), "module"), (lambda: peer.module(wrong), "name"),
        (lambda: peer.spawn(wrong), "module"), (lambda: peer.run(wrong), "target"),
        (lambda: node.upload(wrong, "1.0.0", b""), "name"), (lambda: node.upload("x", wrong, b""), "version"),
        (lambda: node.upload("x", "1.0.0", wrong), "source"), (lambda: net.upload("x", "1.0.0", wrong), "source"),
        (lambda: net.upload(wrong, "1.0.0", b""), "name"), (lambda: node.answer(wrong, True), "event"),
        (lambda: node.answer(gvm.Event("asked", "x", number=1), wrong), "yes"), (lambda: node.close(hurry=wrong), "hurry"),
        (lambda: node.events().get(timeout=-1), "timeout"), (lambda: node.events().get(timeout=NAN), "timeout"),
        (lambda: node.events().get(timeout="1"), "timeout"),  # type: ignore[arg-type]
    ):
        refused(ask, name)
    assert not node.closed
    with pytest.raises(FileNotFoundError):
        node.upload("x", "1.0.0", "none-such.wasm")


def test_what_is_right_is_taken(net: gvm.LocalNetwork, node: gvm.Node, tmp_path: Path) -> None:
    for right in (None, 0, 5, 5.5, "5s", "500ms", "0", datetime.timedelta(seconds=5), numpy.float32(5), numpy.int64(5)):
        assert node.run(None, "slow.add", 1, 2, timeout=right) == 3
    for size in (None, 1 << 20, "64MiB", numpy.int64(1 << 20)):
        assert node.run(None, "slow.add", 1, 2, max_memory=size, max_output=size, fuel=1 << 20) == 3
    settings: dict[str, Any] = {
        "env": {"A": "B"}, "session_time": 60, "max_memory": numpy.int64(64 << 20),
    }
    for processes in (False, True):
        given = {**settings, "dirs": (f"{tmp_path}::/data::{way}" for way in ("ro",)), "allow_calls": iter(["slow.*"])}
        with gvm.LocalNetwork(nodes=2, processes=processes, **given) as inner:
            inner.upload("slow", "1.0.0", b'(module (func (export "one") (result i32) (i32.const 1)))')
            inner.upload("other", "1.0.0", b'(module (func (export "one") (result i32) (i32.const 1)))')
            # Each node has the settings, also in another process.
            peer = inner.node.connect("node-2")
            assert peer.run("slow.one") == 1
            with pytest.raises(gvm.NotPermitted):
                peer.run("other.one")
