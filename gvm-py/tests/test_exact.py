"""Numbers are passed exactly. None is rounded, masked or cut silently."""

from __future__ import annotations

import array
import ctypes
import decimal
import fractions
import math
import warnings
from typing import Any

import gvm
import numpy
import pytest

INTEGERS = {"s8s": "int8", "words": "int16", "u16s": "uint16", "s32s": "int32", "u32s": "uint32", "s64s": "int64", "u64s": "uint64"}
LISTS = ["bytes", *INTEGERS, "halves", "floats"]


@pytest.fixture
def lists(place: gvm.Node | gvm.Peer) -> gvm.Module:
    return place.module("lists")


@pytest.fixture
def values(place: gvm.Node | gvm.Peer) -> gvm.Module:
    return place.module("values")


def refused(function: Any, given: Any, words: str, advice: str | None = None) -> None:
    with warnings.catch_warnings():
        # The conversion must not cause warnings of NumPy.
        warnings.simplefilter("error")
        with pytest.raises(gvm.BadArguments, match=words) as raised:
            function(given)
    assert raised.value.outcome == "not-started"
    if advice is not None:
        assert advice in (raised.value.help or "")


@pytest.mark.parametrize("name", LISTS)
def test_masked_arrays(lists: gvm.Module, name: str) -> None:
    dtype = {"bytes": "uint8", "halves": "float32", "floats": "float64"}.get(name) or INTEGERS[name]
    numbers = numpy.ma.array([1, 2, 3], mask=[0, 0, 1], dtype=dtype)
    refused(lists[name], numbers, r"`v\[2\]`: expected list<\w+>, found a masked element", "`compressed()`")
    refused(lists[name], numpy.ma.array([1, 2], dtype=dtype), "found a masked array", "`filled(value)`")
    refused(lists[name], [1, numpy.ma.masked], r"`v\[1\]`: .*masked element")
    refused(lists[name], (number for number in numbers), r"`v\[2\]`: .*masked element")
    assert [*lists[name](numbers.compressed())] == [1, 2] and [*lists[name](numbers.filled(7))] == [1, 2, 7]


def test_masked_values(values: gvm.Module) -> None:
    for name in ("echo_f64", "echo_f32", "echo_s64", "echo_u8", "echo_bool"):
        refused(values[name], numpy.ma.masked, "`v`")
        refused(values[name], numpy.ma.array(1.0, mask=True), "`v`")
    refused(values.echo_bools, numpy.ma.array([True, False], mask=[0, 1]), r"`v\[1\]`")
    refused(values.echo_strings, numpy.ma.array(["a", "b"], mask=[0, 1]), r"`v\[1\]`")


BIG = 2**53


def test_integers_for_floats(lists: gvm.Module, values: gvm.Module) -> None:
    for exact in (0, 1, -1, BIG, -BIG, BIG + 2, 2**63 - 2**11, 2**1000, -(2**70), True):
        assert values.echo_f64(exact) == exact and [*lists.floats([exact])] == [exact]
    for wrong in (BIG + 1, -BIG - 1, 2**63 - 1, 10**30, 2**1000 + 1):
        refused(values.echo_f64, wrong, "`v`: .* cannot be represented exactly as f64", "`float(…)`")
        refused(lists.floats, [1, wrong], r"`v\[1\]`: .* cannot be represented exactly as f64", "`float(…)`")
    for huge in (10**400, -(10**400)):
        refused(values.echo_f64, huge, "out of range for f64")
        refused(values.echo_f32, huge, "out of range for f32")
    for exact in (2**24, 2**24 + 2, 2**100, -(2**24)):
        assert values.echo_f32(exact) == exact and [*lists.halves([exact])] == [exact]
    for wrong in (2**24 + 1, -(2**24) - 1, 2**53 + 1):
        refused(values.echo_f32, wrong, "`v`: .* cannot be represented exactly as f32", "`float(…)`")
        refused(lists.halves, [wrong], r"`v\[0\]`: .* cannot be represented exactly as f32", "`float(…)`")
    refused(values.echo_f32, 2**128, "out of range for f32")


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_integer_arrays_for_floats(lists: gvm.Module, values: gvm.Module, dtype: str) -> None:
    numbers = numpy.array([0, 1, BIG, BIG + 2, 2**62], dtype=dtype)
    assert [*map(int, lists.floats(numbers))] == [*map(int, numbers)]
    for wrong in (BIG + 1, 2**63 - 1):
        given = numpy.array([1, wrong], dtype=dtype)
        refused(lists.floats, given, rf"`v\[1\]`: {wrong} cannot be represented exactly as f64", "astype")
        refused(lists.floats, given[::-1], rf"`v\[0\]`: {wrong}")
        refused(lists.floats, array.array("q", [1, wrong]), r"`v\[1\]`")
        refused(lists.floats, (ctypes.c_int64 * 2)(1, wrong), r"`v\[1\]`")
        refused(lists.floats, [*given], r"`v\[1\]`: .* cannot be represented exactly as f64")
        refused(values.echo_f64, given[1], "cannot be represented exactly as f64")
        refused(values.echo_f64, numpy.array(wrong, dtype=dtype), "cannot be represented exactly as f64")
    large = numpy.array([2**24 + 1], dtype=dtype)
    refused(lists.halves, large, r"`v\[0\]`: 16777217 cannot be represented exactly as f32", "astype")
    # An array that the caller converts is rounded.
    assert lists.floats(numpy.array([BIG + 1], dtype=dtype).astype(float))[0] == float(BIG)


def test_floats_for_f32(lists: gvm.Module, values: gvm.Module) -> None:
    """Every float becomes the nearest f32, unless that is infinite."""
    nearest = float(numpy.float32(0.1))
    tiny = float(numpy.float32(1e-42))
    for given, want in ((0.1, nearest), (1e-42, tiny), (1e-60, 0.0), (3.4028235e38, float(numpy.finfo("float32").max))):
        assert values.echo_f32(given) == want and values.echo_f32(numpy.float64(given)) == want
        for made in ([given], numpy.array([given]), array.array("d", [given]), (ctypes.c_double * 1)(given)):
            assert float(lists.halves(made)[0]) == want
    for wrong in (3.5e38, -1e300, 1e39):
        refused(values.echo_f32, wrong, "out of range for f32")
        for made in ([1, wrong], numpy.array([1, wrong]), array.array("d", [1, wrong])):
            refused(lists.halves, made, r"`v\[1\]`: .* out of range for f32")
    for special in (math.inf, -math.inf):
        assert values.echo_f32(special) == special and lists.halves([special])[0] == special
    assert math.isnan(values.echo_f32(math.nan)) and math.isnan(lists.halves(numpy.array([math.nan]))[0])


def test_other_numbers(lists: gvm.Module, values: gvm.Module) -> None:
    for exact in (
        decimal.Decimal("0.5"), fractions.Fraction(1, 4), numpy.float32(0.1), numpy.float16(0.1), numpy.int8(3),
        numpy.longdouble(0.5), numpy.array(1.5), numpy.uint64(2**63),
    ):
        assert values.echo_f64(exact) == float(exact) and lists.floats([exact])[0] == float(exact)
    assert math.isnan(values.echo_f64(decimal.Decimal("NaN"))) and math.isnan(values.echo_f64(numpy.float32("nan")))
    for wrong in (decimal.Decimal("0.1"), fractions.Fraction(1, 3), numpy.longdouble(1) / 3):
        for function in (values.echo_f64, values.echo_f32):
            refused(function, wrong, "cannot be represented exactly as f..")
        refused(lists.floats, [1.0, wrong], r"`v\[1\]`: .* cannot be represented exactly as f64")
        refused(values.echo_s32, wrong, "expected s32")
    refused(values.echo_f32, decimal.Decimal(2**24 + 1), "cannot be represented exactly as f32")
    for wrong in (
        1j, numpy.complex128(1), numpy.complex64(1 + 2j), "1", b"1", None, numpy.True_, numpy.array([1.5]),
        numpy.array([[1]]), numpy.datetime64("2020-01-01"), numpy.timedelta64(5, "s"), numpy.str_("1"), [1.0],
    ):
        for name in ("echo_f64", "echo_f32", "echo_s64", "echo_u8"):
            refused(values[name], wrong, f"`v`: expected {name[5:]}, found")
    for name in ("echo_s64", "echo_u8"):
        for wrong in (1.0, numpy.float64(1), numpy.float32(1), numpy.array(1.0), decimal.Decimal(1)):
            refused(values[name], wrong, "expected")


@pytest.mark.parametrize("name", LISTS)
def test_arrays_of_something_else(lists: gvm.Module, name: str) -> None:
    for given, words in (
        (numpy.array([True, False]), "bools"), (numpy.array([1j]), "complex numbers"),
        (numpy.array([1, 2], dtype=object), "Python objects"), (numpy.array(["1"]), "`v"),
        (numpy.array(["2020-01-01"], dtype="datetime64[D]"), r"`v\[0\]`: expected .*, found"),
        (numpy.array([5], dtype="timedelta64[s]"), r"`v\[0\]`: expected .*, found"),
        (numpy.array([b"1"]), "`v"), (numpy.zeros(2, dtype=[("a", "i4")]), "`v"),
        (numpy.array([1.0], dtype="float16"), "floats"), (numpy.array(5.0), "found ndarray"),
        (memoryview(bytes(2)).cast("?"), "bools"), (array.array("u", "ab"), "`v"),
    ):
        refused(lists[name], given, words)
    for given, words, advice in (
        (numpy.array([1.0], dtype="longdouble"), "array whose elements are", "astype"),
        (numpy.zeros((2, 2)), "2 dimensions", "ravel"), (numpy.array([1], dtype=">i4"), "byte order", "astype"),
    ):
        refused(lists[name], given, words, advice)


@pytest.mark.parametrize("name", ["bytes", *INTEGERS])
def test_numbers_out_of_range(lists: gvm.Module, name: str) -> None:
    info = numpy.iinfo(INTEGERS.get(name, "uint8"))
    for wrong in (int(info.max) + 1, int(info.min) - 1):
        refused(lists[name], [0, wrong], r"`v\[1\]`: .* is out of range")
        for dtype in ("int64", "uint64"):
            if numpy.iinfo(dtype).min <= wrong <= numpy.iinfo(dtype).max:
                refused(lists[name], numpy.array([0, wrong], dtype=dtype), r"`v\[1\]`: .* is out of range")
    for wrong in (numpy.array([1.0]), numpy.array([1.5], dtype="float32"), array.array("d", [1])):
        refused(lists[name], wrong, "floats")
    refused(lists[name], [1.0], r"`v\[0\]`: expected")
