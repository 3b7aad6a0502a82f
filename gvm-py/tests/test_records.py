"""Records, variants and errors are values: they compare, hash, copy and pickle."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import gvm
import numpy
import pytest

from components import PADS, Ty, echo
from conftest import ended, python

INNER = Ty("record", (("x", Ty("f64")), ("from", Ty("u8"))))
TYPES = {
    "flat": Ty("record", (("the-name", Ty("string")), ("count", Ty("u64")), ("from", Ty("option", (Ty("u8"),))))),
    "listed": Ty("record", (("values", Ty("list", (Ty("f64"),))), ("class", Ty("bool")))),
    "nested": Ty("record", (("inner", INNER), ("pair", Ty("tuple", (INNER, Ty("u8")))))),
    "lists": Ty("record", (("rows", Ty("list", (Ty("list", (Ty("f64"),)),))),)),
    "variant": Ty("variant", (("none", None), ("one", INNER), ("many", Ty("list", (Ty("f64"),))))),
    "result": Ty("record", (("r", Ty("result", (INNER, Ty("list", (Ty("f64"),))))),)),
}
GIVEN: dict[str, Any] = {
    "flat": {"the-name": "a", "count": 2**64 - 1, "from": None},
    "listed": {"values": [1.0, 2.0], "class": True},
    "nested": {"inner": {"x": 1.5, "from": 1}, "pair": ({"x": 2.5, "from": 2}, 3)},
    "lists": {"rows": [[1.0], [2.0, 3.0]]},
    "variant": ("many", [1.0, 2.0]),
    "result": {"r": gvm.Err([1.0])},
}
HASHED = ("flat", "nested")


@pytest.fixture(scope="module")
def get(net: gvm.LocalNetwork) -> Callable[..., Any]:
    """Returns a function that echoes a value, and makes a new object each time."""
    net.upload("records", "1.0.0", echo(*TYPES.values()))
    module = net.node.module("records")

    def call(name: str, given: Any = None) -> Any:
        got, _ = module[f"echo{[*TYPES].index(name)}"](GIVEN[name] if given is None else given, *range(PADS))
        return got

    return call


@pytest.mark.parametrize("name", TYPES)
def test_they_compare(get: Callable[..., Any], name: str) -> None:
    one, other = get(name), get(name)
    assert one is not other
    for same in (one == other, one == one, not one != other):
        assert same is True
    for different in (one == 7, one == None, one == GIVEN[name], one == get("flat" if name != "flat" else "nested")):  # noqa: E711
        assert different is False
    assert get(name, one) == one
    assert [one] == [other] and one in [other]


def test_unequal_fields(get: Callable[..., Any]) -> None:
    base = get("listed")
    for values in ([1.0], [1.0, 3.0], [], [1.0, 2.0, 3.0]):
        assert (base == get("listed", {"values": values, "class": True})) is False
    assert (base == get("listed", {"values": [1.0, 2.0], "class": False})) is False
    kind = type(base)
    # A record that the caller made compares too.
    assert base == kind([1.0, 2.0], True) and kind([1.0, 2.0], True) == base
    assert base != kind(1.0, True) and base != kind("12", True) and kind("12", True) != base
    assert kind(numpy.zeros((2, 2)), True) == kind(numpy.zeros((2, 2)), True) != kind(numpy.zeros(4), True)
    assert kind(numpy.float64(1), True) == kind(1.0, True) and kind([numpy.zeros(2)], 1) == kind([numpy.zeros(2)], 1)
    assert gvm.Variant("a", numpy.zeros(3)) == gvm.Variant("a", numpy.zeros(3)) != gvm.Variant("b", numpy.zeros(3))
    assert gvm.Ok(numpy.zeros(3)) == gvm.Ok(numpy.zeros(3)) != gvm.Err(numpy.zeros(3))
    assert gvm.Some([numpy.zeros(3)]) == gvm.Some([numpy.zeros(3)]) != gvm.Some(None)


def test_nan(get: Callable[..., Any]) -> None:
    """As in a list, an object is equal to itself, and a NaN is not equal to another NaN."""
    one, other = (get("nested", {"inner": {"x": math.nan, "from": 1}, "pair": ({"x": 1, "from": 2}, 3)}) for _ in "ab")
    assert one == one and copy.copy(one) == one and (one == other) is False
    array, again = (get("listed", {"values": [math.nan], "class": True}) for _ in "ab")
    assert array == array and (array == again) is False


@pytest.mark.parametrize("name", TYPES)
def test_they_hash_where_their_fields_do(get: Callable[..., Any], name: str) -> None:
    one, other = get(name), get(name)
    if name in HASHED:
        assert hash(one) == hash(other) and len({one, other}) == 1 and {one: 1}[other] == 1
        return
    field = {"listed": "values", "lists": "rows", "variant": "value", "result": "r"}[name]
    with pytest.raises(TypeError, match=f"`{field}`"):
        hash(one)
    assert hash(gvm.Variant("a", 1)) == hash(gvm.Variant("a", 1)) != hash(gvm.Variant("a", 2))
    assert len({gvm.Ok(1), gvm.Err(1), gvm.Some(1), gvm.Ok(1)}) == 3


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_they_pickle_and_copy(get: Callable[..., Any], name: str, protocol: int) -> None:
    value = get(name)
    again = pickle.loads(pickle.dumps(value, protocol))
    assert again == value and type(again) is type(value) and repr(again) == repr(value)
    for copied in (copy.copy(value), copy.deepcopy(value)):
        assert copied == value and type(copied) is type(value)
    for error in (gvm.WitError(value), gvm.WitError([value, gvm.Some(value)])):
        error.add_note("a note")
        got = pickle.loads(pickle.dumps(error, protocol))
        assert got.value == error.value and got.__notes__ == ["a note"]
    assert pickle.loads(pickle.dumps(gvm.Event("down", "x", "why"), protocol)) == gvm.Event("down", "x", "why")


def test_they_are_read_by_another_process(get: Callable[..., Any]) -> None:
    """The other process has never made their classes."""
    data = pickle.dumps([get(name) for name in TYPES] + [gvm.WitError(get("nested"))])
    status, out, err = ended(python("""
        import pickle, sys
        *values, error = pickle.loads(bytes.fromhex(sys.argv[1]))
        print([type(value).__name__ for value in values], values[2].inner.x, error.value == values[2])
        """, data.hex()))
    assert status == 0, err
    assert out == "['Record', 'Record', 'Record', 'Record', 'Variant', 'Record'] 1.5 True\n"


def test_they_do_not_change(get: Callable[..., Any]) -> None:
    flat = get("flat")
    with pytest.raises(dataclasses.FrozenInstanceError):
        flat.count = 1
    with pytest.raises(AttributeError):
        del flat.count
    changed = dataclasses.replace(flat, count=1)
    assert (changed.count, flat.count, changed.the_name) == (1, 2**64 - 1, "a") and changed != flat
    assert get("flat", changed) == changed and dataclasses.asdict(changed)["from_"] is None
    match changed:
        case gvm.Record(the_name="a", count=1):
            pass
        case _:
            raise AssertionError


@pytest.mark.parametrize("code", gvm._gvm.CODES)
def test_errors_pickle_with_all_they_say(code: str) -> None:
    kind = gvm._errors.CLASSES[code]
    error = kind("why", outcome="unknown", context="  more", status=3)
    error.index, error.arguments = 7, (1, "a")
    error.add_note("in item 7")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind and vars(again) == vars(error) and str(again) == str(error)
        assert again.code == code and again.outcome == "unknown" and again.__notes__ == ["in item 7"]
    closed = pickle.loads(pickle.dumps(gvm.Closed("the node `x` is closed")))
    assert type(closed) is gvm.Closed and closed.code == "NODE_DOWN" and closed.outcome == "not-started"
