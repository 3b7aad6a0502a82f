"""Large `bytes` as arguments and results, which share memory with the interpreter."""

from __future__ import annotations

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import gvm
import pytest

SIZES = [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 1 << 20, (1 << 20) + 1]
"""Sizes around the one from which memory is shared."""


ENDED: list[int] = []
"""The threads on which finalizers ran."""


class Named(bytes):
    """A subclass, whose objects can have finalizers."""

    def __del__(self) -> None:
        ENDED.append(threading.get_ident())


def block(size: int, seed: int = 7) -> bytes:
    return bytes((n * seed + n // 251) & 255 for n in range(4096)) * (size // 4096 + 1)


@pytest.fixture
def lists(place: gvm.Node | gvm.Peer) -> gvm.Module:
    return place.module("lists")


@pytest.fixture
def live(place: gvm.Node | gvm.Peer) -> gvm.Instance:
    return place.spawn("lists")


def test_every_size_in_any_order(lists: gvm.Module, live: gvm.Instance) -> None:
    for size in [*SIZES, *reversed(SIZES), *SIZES[3:] * 2]:
        data = block(size)[:size]
        got = lists.bytes(data)
        assert type(got) is bytes and got == data
        if size < 1 << 20:
            # The guest never frees its memory.
            assert live.bytes(data) == data


def test_results_are_separate_objects(lists: gvm.Module) -> None:
    data = [block(1 << 17, seed)[: 1 << 17] for seed in range(1, 9)]
    got = [lists.bytes(each) for each in data]
    assert got == data and len({id(each) for each in [*data, *got]}) == 16
    assert [hash(each) for each in got] == [hash(each) for each in data]


def test_subclasses(lists: gvm.Module) -> None:
    named = Named(block(1 << 18))
    got = lists.bytes(named)
    assert type(got) is bytes and got == named
    before = len(ENDED)
    del named
    gc.collect()
    assert ENDED[before:] == [threading.get_ident()]


def test_references_are_returned(lists: gvm.Module) -> None:
    data = block(1 << 18)
    before = sys.getrefcount(data)
    for _ in range(20):
        got = lists.bytes(data)
        assert sys.getrefcount(got) == 2
    # The memory of a call on another node may be released a moment later, by another thread.
    assert sys.getrefcount(data) <= before + 1
    with pytest.raises(gvm.FunctionNotFound):
        lists["none"](data)
    with pytest.raises(gvm.BadArguments):
        lists.bytes(data, data)
    lists.bytes(b"")
    assert sys.getrefcount(data) <= before + 1


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_memory_that_changes_during_the_call(lists: gvm.Module, kind: type) -> None:
    """A call sees the bytes as they were when it was made."""
    memory = bytearray(1 << 20)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            memory[:] = b"\1" * len(memory)
            memory[:] = b"\0" * len(memory)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        for _ in range(20):
            # Another thread cannot run while the argument is copied.
            assert len(set(lists.bytes(kind(memory)))) == 1
    finally:
        stop.set()
        changing.join()


def test_many_threads_share_an_argument(lists: gvm.Module) -> None:
    data = block(1 << 18)
    sizes = [len(data) - n % 3 for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda size: lists.bytes(data[:size] if size < len(data) else data), sizes))
    assert [len(each) for each in got] == sizes and all(data.startswith(each) for each in got)


def test_a_call_from_the_output_of_another(node: gvm.Node) -> None:
    """The inner result does not take the place of the outer one."""
    lists, data = node.module("lists"), block(1 << 17)
    lists.bytes(data)
    inner: list[bytes] = []
    node.module("math").add.options(stdout=lambda _: inner.append(lists.bytes(data)))(1, 2)
    assert inner and all(each == data for each in inner)
    assert lists.bytes(data) == data


def test_bytes_in_a_pool(node: gvm.Node, peer: gvm.Peer) -> None:
    data = [block(1 << 16, seed) for seed in range(1, 20)]
    with gvm.Pool([node, peer]) as pool:
        assert list(pool.map("lists.bytes", data)) == data
