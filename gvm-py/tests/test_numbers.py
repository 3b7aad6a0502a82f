"""Lists of numbers: buffers as arguments, bytes and arrays as results."""

from __future__ import annotations

import array
import ctypes

import gvm
import numpy
import pytest

from conftest import ended, python


@pytest.fixture
def lists(place: gvm.Node | gvm.Peer) -> gvm.Module:
    return place.module("lists")


KINDS = {
    "s8s": "int8", "words": "int16", "u16s": "uint16", "s32s": "int32", "u32s": "uint32", "s64s": "int64",
    "u64s": "uint64", "halves": "float32", "floats": "float64",
}


@pytest.mark.parametrize("name, dtype", KINDS.items())
def test_arrays(lists: gvm.Module, name: str, dtype: str) -> None:
    numbers = numpy.arange(1000).astype(dtype)
    got = lists[name](numbers)
    assert type(got) is numpy.ndarray and got.dtype == dtype and got.flags.writeable
    assert numpy.array_equal(got, numbers)
    # An array that is not contiguous takes one copy. An array of another dtype takes one checked conversion.
    assert numpy.array_equal(lists[name](numbers[::3]), numbers[::3])
    assert numpy.array_equal(lists[name](numbers[::-1]), numbers[::-1])
    small = numpy.arange(100, dtype="uint8")
    assert numpy.array_equal(lists[name](small), small.astype(dtype))
    assert numpy.array_equal(lists[name](list(range(5))), numpy.arange(5, dtype=dtype))
    assert numpy.array_equal(lists[name]((ctypes.c_int16 * 2)(1, 2)), numpy.array([1, 2], dtype=dtype))
    assert numpy.array_equal(lists[name](array.array("h", [1, 2])), numpy.array([1, 2], dtype=dtype))
    assert lists[name]([]).shape == (0,) and lists[name](numbers[:0]).shape == (0,)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda data: numpy.frombuffer(data, "uint8"), list])
def test_bytes(lists: gvm.Module, make: type) -> None:
    data = bytes(range(256)) * 5
    got = lists.bytes(make(data))
    assert type(got) is bytes and got == data
    assert lists.bytes(memoryview(data)[::2]) == data[::2]


def test_what_does_not_fit(lists: gvm.Module) -> None:
    for name, given, words in (
        ("bytes", numpy.array([1, 256]), r"`v\[1\]`: 256 is out of range for u8"),
        ("bytes", numpy.array([1.5]), "elements are floats"),
        ("floats", numpy.zeros((2, 2)), "array of 2 dimensions"),
        ("floats", numpy.zeros(2, dtype="complex128"), "elements are complex numbers"),
        ("floats", numpy.zeros(2, dtype=">f8"), "byte order"),
        ("halves", numpy.array([1e300]), "out of range for f32"),
        ("s32s", [1, "x"], r"`v\[1\]`: expected s32, found str"),
        ("u64s", numpy.array([-1]), "out of range for u64"),
        ("s32s", numpy.array(["a"]), "expected list<s32>|astype"),
        ("s32s", numpy.array([True]), "bools"),
    ):
        with pytest.raises(gvm.BadArguments, match=words) as raised:
            lists[name](given)
        assert ("astype" in (raised.value.help or "")) == ("elements are" in raised.value.message or "order" in words)


def test_special_floats(lists: gvm.Module) -> None:
    special = numpy.array([numpy.nan, numpy.inf, -numpy.inf, -0.0])
    assert lists.floats(special).tobytes() == special.tobytes()
    assert numpy.isinf(lists.halves(special)[1])


def test_large_lists(node: gvm.Node) -> None:
    lists = node.module("lists")
    data = numpy.random.default_rng(1).integers(0, 256, 64 << 20, dtype="uint8")
    assert lists.bytes(data) == data.tobytes()
    floats = numpy.random.default_rng(2).random(8_000_000)
    assert numpy.array_equal(lists.floats(floats), floats)


def test_large_lists_there(peer: gvm.Peer) -> None:
    data = bytes(16 << 20)
    assert peer.module("lists").bytes(data) == data


def test_without_numpy() -> None:
    """Without NumPy, lists of numbers are `array.array`."""
    status, out, err = ended(python("""
        import sys, array
        sys.modules["numpy"] = None
        sys.path.insert(0, sys.argv[1])
        import components, gvm
        with gvm.LocalNetwork(nodes=1) as net:
            net.upload("lists", "1.0.0", components.lists())
            lists = net.node.module("lists")
            for name, code in dict(s8s="b", words="h", u16s="H", s32s="i", u32s="I", s64s="q", u64s="Q",
                                   halves="f", floats="d").items():
                got = lists[name]([1, 2, 3])
                assert got == array.array(code, [1, 2, 3]) and got.typecode == code, got
            assert list(lists.floats([])) == []
        print("well")
        """, __file__.rpartition("/")[0]))
    assert (status, out) == (0, "well\n"), err
