"""Input that nests too deeply raises an error with a code, and the process continues."""

from __future__ import annotations

import threading

import gvm
import pytest


def lists(depth: int) -> bytes:
    """Returns a component that echoes lists of lists, nested `depth` levels deep."""
    types = "".join(f"(type $t{level} (list $t{level - 1}))" for level in range(1, depth + 1))
    return f"""(component (type $t0 u8) {types}
        (core module $m (memory (export "memory") 1) (global $p (mut i32) (i32.const 1024))
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $r i32)
                (local.set $r (i32.and (i32.add (global.get $p) (i32.const 7)) (i32.const -8)))
                (global.set $p (i32.add (local.get $r) (local.get 3))) (local.get $r))
            (func (export "id") (param i32 i32) (result i32)
                (i32.store (i32.const 8) (local.get 0)) (i32.store (i32.const 12) (local.get 1)) (i32.const 8)))
        (core instance $i (instantiate $m))
        (func (export "id") (param "x" $t{depth}) (result $t{depth})
            (canon lift (core func $i "id") (memory $i "memory") (realloc (func $i "realloc")))))""".encode()


def test_values(net: gvm.LocalNetwork, place: gvm.Node | gvm.Peer) -> None:
    net.upload("deep-lists", "1.0.0", lists(97))
    echo = place.module("deep-lists").id
    value: object = b"x"
    for _ in range(96):
        value = [value]
    assert echo(value) == value
    endless: list[object] = []
    endless.append(endless)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for wrong in (endless, deep):
        with pytest.raises(gvm.BadArguments):
            echo(wrong)


@pytest.mark.parametrize("stack", [0, 256 << 10])
def test_calls(node: gvm.Node, stack: int) -> None:
    ended: list[object] = []

    def run(depth: int) -> None:
        try:
            ended.append(node.run(None, "math.add(1, " * depth + "1" + ")" * depth, stdout=lambda _: None))
        except gvm.Error as error:
            ended.append(error.code)

    before = threading.stack_size(stack)
    try:
        for depth in (99, 102, 100_000):
            thread = threading.Thread(target=run, args=(depth,))
            thread.start()
            thread.join()
    finally:
        threading.stack_size(before)
    assert ended == [100, "SYNTAX", "SYNTAX"]
