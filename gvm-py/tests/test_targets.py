"""`submit` and `map` take the same targets as `run`."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Iterator
from typing import Any

import gvm
import pytest

from conftest import stock

ECHO = b"""(module
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $sizes (i32.const 0) (i32.const 4)))
    (drop (call $args (i32.const 64) (i32.const 1024)))
    (i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.load (i32.const 4)))
    (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 32)))))"""
"""Prints its command line, with a zero byte after each argument."""


@pytest.fixture(scope="module", params=[False, True])
def net(request: pytest.FixtureRequest) -> Iterator[gvm.LocalNetwork]:
    with gvm.LocalNetwork(nodes=2, processes=request.param) as net:
        stock(net)
        net.upload("words", "1.0.0", ECHO)
        yield net


def output(ask: Any) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        ask()
    return out.getvalue()


def test_mains(net: gvm.LocalNetwork) -> None:
    said = "Reponse from the math module...\n"
    assert output(lambda: net.submit("math").result(20)) == said
    assert output(lambda: net.submit("math@1.0.0").result(20)) == said
    assert output(lambda: asyncio.run(net.submit.aio("math"))) == said
    assert output(lambda: net.submit("words", "a", "b c").result(20)) == "words\0a\0b c\0"
    assert output(lambda: list(net.map("words", ["x"]))) == "words\0x\0"
    assert output(lambda: list(net.starmap("words", [(), ("y", "z")], chunksize=2))).count("words\0") == 2
    with pytest.raises(gvm.GuestExit):
        net.submit("leave").result(20)
    with pytest.raises(gvm.FunctionNotFound):
        net.submit("lists").result(20)


def test_calls_with_their_arguments(net: gvm.LocalNetwork) -> None:
    assert net.submit("slow.add(1, 2)").result(20) == 3
    assert net.submit("slow.add(slow.add(1, 2), 3)").result(20) == 6
    assert net.submit("slow@1.0.0.add(1,2)").result(20) == 3
    assert list(net.starmap("slow.add(1, 2)", [()] * 3)) == [3, 3, 3]
    assert isinstance(net.submit("slow.add(1)").exception(20), gvm.BadArguments)
    assert isinstance(net.submit("slow.none(1)").exception(20), gvm.FunctionNotFound)


def test_options_go_with_all(net: gvm.LocalNetwork) -> None:
    said: list[str] = []
    nodes: list[Any] = [*net.nodes]
    with gvm.Pool(nodes, stdout=said.append, timeout=0.2) as pool:
        pool.submit("math").result(20)
        pool.submit("math.add(1, 2)").result(20)
        pool.submit("math.add", 1, 2).result(20)
        assert "".join(said) == "Reponse from the math module...\n" + 2 * "Adding Numbers From Wasm...\n"
        for target, args in (("spin.spin", ()), ("spin.spin()", ())):
            assert isinstance(pool.submit(target, *args).exception(20), gvm.Timeout)


def test_what_cannot_be_is_refused_at_once(net: gvm.LocalNetwork) -> None:
    for ask, words in (
        (
            lambda: net.submit("slow.add(1, 2)", 3),
            "target: 'slow.add\\(1, 2\\)' contains its arguments, but more arguments were given",
        ),
        (lambda: net.map("slow.add(1, 2)", [1]), "contains its arguments, but more"),
        (lambda: net.submit("math", 1), "args\\[0\\]: expected a str for the main of `math`, found 1"),
        (lambda: net.map("math", ["a", 1]), "args\\[0\\]: expected a str"),
        (lambda: net.submit(print), "target: expected the name of a function"),
        (lambda: net.map(net.node.module("slow").add, [1], [2]), "target: expected the name of a function"),
        (lambda: net.map("slow.add"), "at least one iterable"),
        (lambda: net.map("slow.add", 1), "iterables: expected an iterable"),
        (lambda: net.starmap("slow.add", 1), "arguments: expected an iterable"),
        (lambda: net.starmap("slow.add", [1]), "arguments\\[0\\]: expected the arguments of one call"),
        (lambda: net.starmap("slow.add", ["12"]), "arguments\\[0\\]: expected the arguments of one call"),
        (lambda: net.node.run(None, "slow.add(1, 2)", 3), "contains its arguments, but more"),
        (lambda: net.node.run(None, "math", 1), "args\\[0\\]"),
        (lambda: net.node.run(None, 7), "target: expected"),
        (lambda: net.node.module("math")(1), "argv\\[0\\]: expected a str"),
    ):
        with pytest.raises(gvm.BadArguments, match=words) as raised:
            ask()
        assert isinstance(raised.value, TypeError) and raised.value.outcome == "not-started"
        if "more arguments" in raised.value.message:
            assert raised.value.help == "put the arguments into the target, or pass them after it"
    with pytest.raises(gvm.Syntax):
        net.submit("slow.add(")
    assert net.pool._work.waiting() == 0 and not net.pool._work.running
