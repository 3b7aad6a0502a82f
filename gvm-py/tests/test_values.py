"""Values: the Python objects for each WIT type, and the errors for objects that do not fit."""

from __future__ import annotations

import dataclasses
import enum
import pickle
from types import SimpleNamespace
from typing import Any

import gvm
import numpy
import pytest


@pytest.fixture
def values(place: gvm.Node | gvm.Peer) -> gvm.Module:
    return place.module("values")


def test_records(values: gvm.Module) -> None:
    @dataclasses.dataclass
    class Tail:
        name: str
        note: str | None
        count: int

    for given in (
        {"name": "a", "note": None, "count": 2**64 - 1}, Tail("a", None, 2**64 - 1),
        SimpleNamespace(name="a", note=None, count=2**64 - 1),
    ):
        got = values.echo_record(given)
        assert isinstance(got, gvm.Record) and dataclasses.is_dataclass(got)
        assert (got.name, got.note, got.count) == ("a", None, 2**64 - 1)
        assert got == values.echo_record(got) and got._asdict() == dataclasses.asdict(got)
        assert repr(got) == f"Record(name='a', note=None, count={2**64 - 1})"
        match got:
            case gvm.Record(name=name):
                assert name == "a"
    for wrong, words in (
        ({"name": "a", "note": None}, "the field `count` is missing"),
        ({"name": "a", "note": None, "count": "1"}, "`v.count`: expected u64, found str"),
        ({"name": "a", "note": None, "count": 1, "size": 2}, "found `size` in the dict"),
        (SimpleNamespace(name="a"), "the field `note` is missing"), (7, "expected record .*, found int"),
        ("a", "found str"), (None, "found NoneType"),
    ):
        with pytest.raises(gvm.BadArguments, match=words):
            values.echo_record(wrong)


def test_variants_and_enums(values: gvm.Module) -> None:
    assert values.echo_variant(gvm.Variant("circle", 1.5)) == gvm.Variant("circle", 1.5)
    assert values.echo_variant(("circle", 1.5)) == gvm.Variant("circle", 1.5)
    assert values.echo_variant("nothing") == gvm.Variant("nothing")
    line = values.echo_variant(gvm.Variant("line", ({"x": 1, "y": 2}, {"x": 3, "y": 4})))
    assert (line.value[0].x, line.value[1].y) == (1.0, 4.0)
    match values.echo_variant(("label", "hello")):
        case gvm.Variant("label", text):
            assert text == "hello"
        case _:
            raise AssertionError
    for wrong, words in (
        ("circle", "the case `circle` needs a value of type f32"), (("nothing", 1), "has no value"),
        ("square", "found \"square\""), (("circle", "x"), "`v.circle`: expected f32, found str"), (7, "found int"),
    ):
        with pytest.raises(gvm.BadArguments, match=words) as raised:
            values.echo_variant(wrong)
        assert raised.value.help == ("pass `gvm.Variant(case, value)`" if wrong == "circle" else None)

    class Colour(enum.Enum):
        RED = "red"
        green = 1

    assert values.echo_enum("red") == values.echo_enum(Colour.RED) == "red"
    assert values.echo_enum(Colour.green) == "green"
    with pytest.raises(gvm.BadArguments, match='expected enum { red, green, blue, none }, found "pink"'):
        values.echo_enum("pink")


def test_options_and_results(values: gvm.Module) -> None:
    for given, want in (
        (None, None), (gvm.Some(None), gvm.Some(None)), (gvm.Some(gvm.Some(3)), gvm.Some(3)),
        (gvm.Some(3), gvm.Some(3)), (3, gvm.Some(3)),
    ):
        assert values.echo_option(given) == want
    assert values.echo_result(gvm.Ok(3)) == 3
    with pytest.raises(gvm.WitError) as raised:
        values.echo_result(gvm.Err("no"))
    assert raised.value.value == "no" and not isinstance(raised.value, gvm.Error)
    assert values.echo_result_ok(gvm.Ok(7)) == 7
    assert values.echo_result_err(gvm.Ok()) is None and values.echo_result_bare(gvm.Ok()) is None
    for bare in (values.echo_result_bare, values.echo_result_ok):
        with pytest.raises(gvm.WitError) as raised:
            bare(gvm.Err())
        assert raised.value.value is None
    with pytest.raises(gvm.WitError, match="because"):
        values.refuse("because")
    for wrong in (3, gvm.Ok("x"), gvm.Err(3), None):
        with pytest.raises(gvm.BadArguments) as refused:
            values.echo_result(wrong)
        wrapped = isinstance(wrong, (gvm.Ok, gvm.Err))
        assert refused.value.help == (None if wrapped else "pass `gvm.Ok(value)` or `gvm.Err(value)`")
    with pytest.raises(gvm.BadArguments, match="has no value"):
        values.echo_result_bare(gvm.Ok(3))


def test_flags_and_tuples(values: gvm.Module) -> None:
    assert values.echo_flags({"read", "run"}) == {"read", "run"} and values.echo_flags([]) == frozenset()
    assert values.echo_wide(["a0", "d1"]) == {"a0", "d1"}
    for wrong in ({"fly"}, "read", 1, None):
        with pytest.raises(gvm.BadArguments):
            values.echo_flags(wrong)
    got = values.echo_tuple([7, "x", {"x": 1, "y": 2}])
    assert got[:2] == (7, "x") and type(got) is tuple
    for wrong in ((7, "x"), (256, "x", {"x": 1, "y": 2}), "abc", {7: 1}):
        with pytest.raises(gvm.BadArguments):
            values.echo_tuple(wrong)


def test_numbers_and_texts(values: gvm.Module) -> None:
    assert values.echo_u64(numpy.uint64(2**64 - 1)) == 2**64 - 1 and values.echo_u8(True) == 1
    assert values.echo_bool(numpy.True_) is True and values.echo_f64(7) == 7.0
    assert values.echo_f32(float("inf")) == float("inf") and values.echo_f32(0.1) != 0.1
    assert values.echo_char("🜨") == "🜨" and values.echo_string("a\0ü") == "a\0ü"
    wrong: list[tuple[str, Any]] = [
        ("echo_u8", -1), ("echo_u8", 1.0), ("echo_s64", 2**63), ("echo_f32", 1e300), ("echo_f64", "1"),
        ("echo_bool", 1), ("echo_bool", None), ("echo_char", "ab"), ("echo_char", ""), ("echo_char", "\udc80"),
        ("echo_string", "\udc80"), ("echo_string", b"x"), ("echo_strings", "abc"), ("echo_strings", {"a"}),
        ("echo_bytes", "abc"), ("echo_bytes", [256]), ("echo_bytes", 7), ("echo_bools", [1]),
    ]
    for name, given in wrong:
        with pytest.raises(gvm.BadArguments):
            values[name](given)


def test_values_that_run_python() -> None:
    """An exception from the Python code of a value reaches the caller unchanged."""

    class Broken:
        def __index__(self) -> int:
            raise KeyboardInterrupt

    with gvm.LocalNetwork(nodes=1) as net:
        net.upload("f", "1.0.0", b'(module (func (export "f") (param i32)))')
        with pytest.raises(KeyboardInterrupt):
            net.node.module("f").f(Broken())


def test_core_functions(place: gvm.Node | gvm.Peer) -> None:
    numbers = place.module("numbers")
    assert numbers.all(-1, -(2**63), 0.5, 1e300) == (-1, -(2**63), 0.5, 1e300)
    assert numbers.swap(1, 2.5) == (2.5, 1) and numbers.nothing() is None
    with pytest.raises(gvm.UnsupportedType):
        numbers.vector


def test_errors_travel() -> None:
    for kind in vars(gvm).values():
        if isinstance(kind, type) and issubclass(kind, gvm.Error):
            error = kind("why", outcome="unknown", context="  more", help="do this", status=3)
            again = pickle.loads(pickle.dumps(error))
            assert type(again) is kind and vars(again) == vars(error)
            assert str(again) == f"{kind.code}: why\n  more"
    assert pickle.loads(pickle.dumps(gvm.WitError([1]))).value == [1]


def test_every_code_has_its_class() -> None:
    from gvm import _errors, _gvm

    assert set(_errors.CLASSES) == set(_gvm.CODES)
    for code, kind in _errors.CLASSES.items():
        assert kind.code == code and getattr(gvm, kind.__name__) is kind and kind.__name__ in gvm.__all__
        assert kind.__name__.lower() == code.replace("_", "").lower()
