"""Values of generated WIT types stay the same on their way to a node of this process or a connected node, and back."""

from __future__ import annotations

import itertools
import math
from typing import Any

import gvm
import numpy
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components import PADS, Ty, echo

INTEGERS = {f"{sign}{bits}": (sign, bits) for sign in "su" for bits in (8, 16, 32, 64)}
DTYPES = {
    "s8": "int8", "s16": "int16", "u16": "uint16", "s32": "int32", "u32": "uint32", "s64": "int64",
    "u64": "uint64", "f32": "float32", "f64": "float64",
}
NAMES = ["a", "b-c", "from", "x1", "class", "self", "value", "name", "get-it", "z"]
PLAIN = st.sampled_from(["bool", *INTEGERS, "f32", "f64", "char", "string"]).map(Ty)

# What WIT allows as the keys of a map.
KEYS = st.sampled_from(["bool", *INTEGERS, "char", "string"]).map(Ty)


def names(least: int, most: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(NAMES), min_size=least, max_size=most, unique=True)


def named(inner: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return names(1, most).flatmap(
        lambda found: st.tuples(*[inner] * len(found)).map(lambda parts: tuple(zip(found, parts)))
    )


def made_of(inner: st.SearchStrategy[Ty]) -> st.SearchStrategy[Ty]:
    maybe = st.none() | inner
    return st.one_of(
        inner.map(lambda ty: Ty("list", (ty,))),
        st.tuples(inner, st.integers(1, 4)).map(lambda parts: Ty("fixed", parts)),
        st.tuples(KEYS, inner).map(lambda parts: Ty("map", parts)),
        inner.map(lambda ty: Ty("option", (ty,))),
        st.tuples(maybe, maybe).map(lambda sides: Ty("result", sides)),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: Ty("tuple", tuple(parts))),
        named(inner, 3).map(lambda fields: Ty("record", fields)),
        named(maybe, 4).map(lambda cases: Ty("variant", cases)),
        names(1, 5).map(lambda found: Ty("enum", tuple(found))),
        names(1, 8).map(lambda found: Ty("flags", tuple(found))),
    )


TYPES = st.recursive(PLAIN, made_of, max_leaves=6)


def values(ty: Ty) -> st.SearchStrategy[Any]:
    """Generates arguments for this type."""
    match ty.kind, ty.parts:
        case "bool", _:
            return st.booleans()
        case ("f32" | "f64") as kind, _:
            return st.floats(width=int(kind[1:]))
        case "char", _:
            return st.characters(exclude_categories=["Cs"])
        case "string", _:
            return st.text(st.characters(exclude_categories=["Cs"]))
        case "list", (element,):
            return st.lists(values(element), max_size=4)
        case "fixed", (element, length):
            return st.lists(values(element), min_size=length, max_size=length)
        case "map", (key, value):
            return st.dictionaries(values(key), values(value), max_size=3)
        case "option", (some,):
            return st.none() | values(some).map(gvm.Some)
        case "result", (ok, err):
            return st.one_of(
                (st.none() if ok is None else values(ok)).map(gvm.Ok),
                (st.none() if err is None else values(err)).map(gvm.Err),
            )
        case "tuple", parts:
            return st.tuples(*map(values, parts))
        case "record", fields:
            return st.fixed_dictionaries({name: values(part) for name, part in fields})
        case "variant", cases:
            return st.one_of(
                *(
                    st.just(gvm.Variant(name)) if part is None
                    else values(part).map(lambda value, name=name: gvm.Variant(name, value))
                    for name, part in cases
                )
            )
        case "enum", found:
            return st.sampled_from(found)
        case "flags", found:
            return st.frozensets(st.sampled_from(found))
    sign, bits = INTEGERS[ty.kind]
    return st.integers(*((0, 2**bits - 1) if sign == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)))


def same(ty: Ty, given: Any, got: Any) -> bool:
    """Returns whether a result equals the argument, in the form that Python code should get."""
    match ty.kind, ty.parts:
        case ("f32" | "f64"), _:
            return type(got) is float and (given == got or math.isnan(given) and math.isnan(got))
        case "fixed", (element, length):
            return len(got) == length and same(Ty("list", (element,)), given, got)
        case "map", (key, value):
            return type(got) is dict and len(given) == len(got) and all(
                same(key, *keys) and same(value, given[keys[0]], got[keys[1]]) for keys in zip(given, got)
            )
        case "list", (Ty("u8"),):
            return type(got) is bytes and bytes(given) == got
        case "list", (Ty(kind),) if kind in DTYPES:
            want = numpy.array(given, dtype=DTYPES[kind])
            return got.dtype == want.dtype and numpy.array_equal(got, want, equal_nan=kind[0] == "f")
        case "list", (element,):
            return type(got) is list and len(given) == len(got) and all(
                same(element, *pair) for pair in zip(given, got)
            )
        case "option", (some,):
            if given is None:
                return got is None
            if some.kind == "option":
                return type(got) is gvm.Some and same(some, given.value, got.value)
            return same(some, given.value, got)
        case "result", (ok, err):
            part = ok if type(given) is gvm.Ok else err
            return type(got) is type(given) and (got.value is None if part is None else same(part, given.value, got.value))
        case "tuple", parts:
            return type(got) is tuple and len(got) == len(parts) and all(map(same, parts, given, got))
        case "record", fields:
            assert isinstance(got, gvm.Record)
            return all(
                same(part, given[name], getattr(got, {"from": "from_", "class": "class_"}.get(name, name.replace("-", "_"))))
                for name, part in fields
            )
        case "variant", cases:
            part = dict(cases)[given.case]
            return got.case == given.case and (got.value is None if part is None else same(part, given.value, got.value))
        case "flags", _:
            return type(got) is frozenset and given == got
    return type(given) is type(got) and given == got


count = itertools.count()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(types=st.lists(TYPES, min_size=6, max_size=6), data=st.data())
def test_every_type_crosses(net: gvm.LocalNetwork, types: list[Ty], data: st.DataObject) -> None:
    name = f"echo-{next(count)}"
    net.upload(name, "1.0.0", echo(*types))
    for place in (net.node, net.node.connect("node-2")):
        module = place.module(name)
        for n, ty in enumerate(types):
            given = data.draw(values(ty), label=str(ty))
            got, pad = module[f"echo{n}"](given, *range(7, 7 + PADS))
            assert pad == 7
            assert same(ty, given, got), f"{ty}: {given!r} came back as {got!r}"
            # The result works as an argument too.
            again, _ = module[f"echo{n}"](got, *range(PADS))
            assert same(ty, given, again)


WRONG = {
    "bool": [1, "x", None], "char": ["", "ab", 7, "\ud800"], "string": [b"x", 7, None, "a\ud800"],
    "f32": ["1", None, 1e39], "f64": ["1", None, 10**400],
    **{name: ["1", None, 1.0, 2**70, -(2**70)] for name in INTEGERS},
    "u8": [-1, 256], "s8": [-129, 128], "u64": [-1, 2**64], "s64": [2**63],
}


def wrong(ty: Ty) -> st.SearchStrategy[Any]:
    """Generates objects that are not values of this type, nested as deeply as possible."""
    match ty.kind, ty.parts:
        case "list", (element,):
            return wrong(element).map(lambda value: [value])
        case "fixed", (element, length):
            short = st.lists(values(element), max_size=length - 1)
            return short | wrong(element).map(lambda value: [value] * length)
        case "map", (key, value):
            return st.tuples(values(key), wrong(value)).map(lambda pair: dict([pair])) | st.just([])
        case "tuple", (first, *rest):
            return st.tuples(wrong(first), *map(values, rest))
        case "record", fields:
            whole = {name: values(part) for name, part in fields}
            return st.fixed_dictionaries(dict(list(whole.items())[1:])) | st.fixed_dictionaries(whole).map(
                lambda record: record | {"no-such-field": 1}
            )
        case "variant" | "enum", _:
            return st.sampled_from(["no-such-case", 7])
        case "flags", _:
            return st.sampled_from([{"no-such-flag"}, "a", 7])
        case "option", (some,):
            return wrong(some).filter(lambda value: value is not None).map(gvm.Some)
        case "result", _:
            return st.sampled_from([1, None, "ok"])
    return st.sampled_from(WRONG[ty.kind])


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(types=st.lists(TYPES, min_size=6, max_size=6), data=st.data())
def test_what_does_not_fit_is_refused(net: gvm.LocalNetwork, types: list[Ty], data: st.DataObject) -> None:
    name = f"refuse-{next(count)}"
    net.upload(name, "1.0.0", echo(*types))
    module = net.node.connect("node-2").module(name)
    for n, ty in enumerate(types):
        given = data.draw(wrong(ty), label=str(ty))
        with pytest.raises(gvm.BadArguments) as raised:
            module[f"echo{n}"](given, *range(PADS))
        assert raised.value.outcome == "not-started"
        assert "`v" in raised.value.message and f"echo{n}: func(v: " in str(raised.value)
