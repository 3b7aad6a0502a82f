"""Async functions of a component, called like others: from this process, from event loops, on another node."""

from __future__ import annotations

import asyncio

import gvm
import pytest

COMPONENT = b"""(component
    (import "wasi:clocks/monotonic-clock@0.3.0" (instance $clock (export "wait-for" (func async (param "how-long" u64)))))
    (core module $memory (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $memory (instantiate $memory))
    (alias core export $memory "memory" (core memory $m))
    (alias core export $memory "realloc" (core func $realloc))
    (core func $number (canon task.return (result u32)))
    (core func $text (canon task.return (result string) (memory $m)))
    (core func $none (canon task.return))
    (core func $wait (canon lower (func $clock "wait-for")))
    (core module $main
        (import "" "number" (func $number (param i32)))
        (import "" "text" (func $text (param i32 i32)))
        (import "" "none" (func $none))
        (import "" "wait" (func $wait (param i64)))
        (global $count (mut i32) (i32.const 0))
        (func (export "add") (param i32 i32) (result i32)
            (call $number (i32.add (local.get 0) (local.get 1))) (i32.const 0))
        (func (export "count") (result i32)
            (global.set $count (i32.add (global.get $count) (i32.const 1)))
            (call $number (global.get $count)) (i32.const 0))
        (func (export "echo") (param i32 i32) (result i32)
            (call $text (local.get 0) (local.get 1)) (i32.const 0))
        (func (export "wait") (param i64) (result i32) (call $wait (local.get 0)) (call $none) (i32.const 0))
        (func (export "take") (param i32) (result i32) (call $none) (i32.const 0))
        (func (export "callback") (param i32 i32 i32) (result i32) unreachable))
    (core instance $i (instantiate $main (with "" (instance
        (export "number" (func $number)) (export "text" (func $text)) (export "none" (func $none))
        (export "wait" (func $wait))))))
    (alias core export $i "callback" (core func $callback))
    (func (export "add") async (param "a" u32) (param "b" u32) (result u32)
        (canon lift (core func $i "add") async (callback $callback)))
    (func (export "count") async (result u32) (canon lift (core func $i "count") async (callback $callback)))
    (func (export "echo") async (param "v" string) (result string)
        (canon lift (core func $i "echo") async (callback $callback) (memory $m) (realloc $realloc)))
    (func (export "wait") async (param "nanoseconds" u64)
        (canon lift (core func $i "wait") async (callback $callback)))
    (func (export "take") async (param "v" (stream u8))
        (canon lift (core func $i "take") async (callback $callback)))
)"""


@pytest.fixture(scope="module")
def tasks(net: gvm.LocalNetwork) -> gvm.LocalNetwork:
    net.upload("tasks", "1.0.0", COMPONENT)
    return net


def test_are_called_like_others(tasks: gvm.LocalNetwork) -> None:
    for place in (tasks.node, tasks.node.connect("node-2")):
        module = place.module("tasks")
        assert module.add(1, 2) == 3
        assert module.echo("é") == "é"
        assert module.wait(1000) is None
        assert [module.count(), module.count()] == [1, 1]


def test_are_awaited(tasks: gvm.LocalNetwork) -> None:
    module = tasks.node.module("tasks")

    async def sums() -> list[int]:
        return list(await asyncio.gather(*(module.add.aio(n, 1) for n in range(50))))

    assert asyncio.run(sums()) == list(range(1, 51))


def test_keep_their_state_in_live_instances(tasks: gvm.LocalNetwork) -> None:
    for place in (tasks.node, tasks.node.connect("node-2")):
        with place.spawn("tasks") as live:
            assert [live.count(), live.count(), live.count()] == [1, 2, 3]


def test_end_in_time(tasks: gvm.LocalNetwork) -> None:
    for place in (tasks.node, tasks.node.connect("node-2")):
        with pytest.raises(gvm.Timeout):
            place.module("tasks").wait.options(timeout=0.2)(3_600_000_000_000)


def test_streams_are_refused(tasks: gvm.LocalNetwork) -> None:
    with pytest.raises(gvm.UnsupportedType, match="stream<u8>"):
        tasks.node.module("tasks").take(b"x")
