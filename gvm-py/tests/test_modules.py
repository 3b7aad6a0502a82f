"""Modules as Python objects: attributes, signatures, help, completion, output, limits."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import inspect
import io
import pydoc
import time

import gvm
import pytest

from conftest import SLOW


def test_signatures_are_shown(place: gvm.Node | gvm.Peer) -> None:
    values = place.module("values")
    assert str(inspect.signature(values.echo_record)) == (
        "(v: record { name: string, note: option<string>, count: u64 })"
        " -> record { name: string, note: option<string>, count: u64 }"
    )
    assert str(inspect.signature(values.nothing)) == "()"
    shown = pydoc.render_doc(values.echo_option, renderer=pydoc.plaintext)
    assert "echo_option(v: option<option<u32>>)" in shown and "echo-option: func(v:" in shown
    assert "echo-bytes: func(v: list<u8>) -> list<u8>" in repr(values)
    assert values.echo_bytes.__name__ == "echo_bytes" and values.echo_bytes.wit in repr(values)
    assert "awaitable twin" in values.echo_bytes.aio.__doc__


NAMES = rb'''(module
  (func (@name "\0aTRAP: forged\1b[2K") (export "boom") unreachable)
  (func (export "\1b]0;pwned\07"))
  (func (export "abc\e2\80\aedef"))
  (func (export "one\0aforged: func()\1b[31m")))'''


def test_names_that_a_module_chose_act_on_no_terminal(net: gvm.LocalNetwork, place: gvm.Node | gvm.Peer) -> None:
    said = net.upload("hostile-names", "1.0.0", NAMES)
    module = place.module("hostile-names")
    function = module["\x1b]0;pwned\x07"]
    said += [repr(module), module._repr_html_(), repr(function), function.wit, function.__name__, function.__qualname__]
    said += [function.__doc__, pydoc.render_doc(function, renderer=pydoc.plaintext)]
    for wrong in (lambda: module.boom(), lambda: module["nope"](), lambda: function(1), lambda: module.bom()):
        with pytest.raises(gvm.Error) as raised:
            wrong()
        said.append(str(raised.value))
    for text in said:
        lines = text.splitlines()
        assert all(c.isprintable() for line in lines for c in line), text
        assert not any(line.strip().startswith(("forged", "TRAP: forged")) for line in lines), text
    assert function() is None, "it is called by its own name"


def test_completion(place: gvm.Node | gvm.Peer) -> None:
    values = place.module("values")
    assert {"echo_bytes", "only_left", "left", "right", "name"} <= set(dir(values))
    assert dir(values.left)[-2:] == ["only_left", "side"]
    assert "test:values/left@1.0.0" in values._ipython_key_completions_()


def test_interfaces(place: gvm.Node | gvm.Peer) -> None:
    values = place.module("values")
    assert values.left.side() == "left" and values.right.side() == "right"
    assert values.only_left() == "only left"
    assert values["test:values/right@1.0.0"].side() == values["test:values/right"].side() == "right"
    with pytest.raises(gvm.FunctionAmbiguous, match="test:values/left@1.0.0") as raised:
        values.side
    assert isinstance(raised.value, LookupError)
    node = place.node if isinstance(place, gvm.Peer) else place
    assert node.run(place.name, "values.left.side") == "left"
    assert node.run(place.name, 'values."test:values/right@1.0.0".side') == "right"


def test_names_that_are_ours(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    net.upload("names", "1.0.0", b"""(module
      (func (export "name") (result i32) (i32.const 1))
      (func (export "close") (result i32) (i32.const 2))
      (func (export "from") (result i32) (i32.const 3))
      (func (export "two-words") (result i32) (i32.const 4)))""")
    names = node.module("names")
    assert names.name == "names" and names["name"]() == 1
    assert names.close() == 2 and names.from_() == 3
    assert names.two_words() == names["two-words"]() == names["two_words"]() == 4
    with node.spawn("names") as live:
        assert live["close"]() == 2


def test_unknown_names_fail_at_once(place: gvm.Node | gvm.Peer) -> None:
    with pytest.raises(gvm.ModuleNotFound, match="math"):
        place.module("mat")
    with pytest.raises(gvm.ModuleNotFound):
        place.module("math@9.9.9")
    with pytest.raises(gvm.FunctionNotFound, match="did you mean `add`"):
        place.module("math").ad
    assert not hasattr(place.module("math"), "no_such_function")
    assert not hasattr(place.module("math"), "_private")
    with pytest.raises(gvm.UnsupportedType):
        place.module("values").heaviest
    with pytest.raises(gvm.Syntax):
        place.module("math.add")


def test_arguments(place: gvm.Node | gvm.Peer) -> None:
    math = place.module("math")
    assert math.add(p0=1, p1=2) == math.add(1, p1=2) == 3
    for wrong, words in (
        ((1,), "argument `p1` \\(s32\\) is missing"), ((1, 2, 3), "takes 2 arguments, but 3 were given"),
        ((1, "2"), "`p1`: expected s32, found str"), ((1, 2.0), "`p1`: expected s32, found float"),
        ((1, 2**31), "`p1`: 2147483648 is out of range for s32"),
    ):
        with pytest.raises(gvm.BadArguments, match=words) as raised:
            math.add(*wrong)
        assert isinstance(raised.value, TypeError) and isinstance(raised.value, ValueError)
        assert "add: func(p0: s32, p1: s32) -> s32" in str(raised.value)
    with pytest.raises(gvm.BadArguments, match="the argument `p1` was given twice"):
        math.add(1, 2, p1=3)
    with pytest.raises(gvm.BadArguments, match="no parameter `c`"):
        math.add(1, 2, c=3)


def test_another_version_is_seen(net: gvm.LocalNetwork, place: gvm.Node | gvm.Peer) -> None:
    name = f"changing-{'here' if place is net.node else 'there'}"
    text = '(module (func (export "f") (param %s) (result %s) (local.get 0)))'
    net.upload(name, "1.0.0", (text % ("i32", "i32")).encode())
    changing = place.module(name)
    f = changing.f
    assert f(7) == 7
    net.upload(name, "1.1.0", (text % ("f64", "f64")).encode())
    assert f(1.5) == 1.5 and f.wit == "f: func(p0: f64) -> f64"
    assert place.module(f"{name}@1.0.0").f(7) == 7
    with pytest.raises(gvm.ModuleExists):
        net.upload(name, "1.1.0", SLOW)
    with pytest.raises(gvm.ModuleInvalid):
        net.upload(name, "2.0.0", b"(module")


def test_output_goes_to_the_caller(place: gvm.Node | gvm.Peer) -> None:
    values = place.module("values")
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert values.speak("Grüße") == 7
    assert (out.getvalue(), err.getvalue()) == ("Grüße\n", "Grüße, but louder\n")
    said: list[str] = []
    loud = io.StringIO()
    assert values.speak.options(stdout=said.append, stderr=loud)("x") == 1
    assert ("".join(said), loud.getvalue()) == ("x\n", "x, but louder\n")
    with pytest.raises(ZeroDivisionError):
        values.speak.options(stdout=lambda text: 1 / 0)("x")
    with pytest.raises(gvm.BadArguments):
        values.speak.options(stdout=7)


def test_output_is_streamed(place: gvm.Node | gvm.Peer) -> None:
    moments: list[float] = []
    place.module("values", stdout=lambda text: moments.append(time.monotonic())).sleep(400)
    assert time.monotonic() - moments[0] > 0.2


def test_output_of_tasks(place: gvm.Node | gvm.Peer) -> None:
    async def speak(word: str) -> str:
        out = io.StringIO()
        await place.module("values", stdout=out, stderr=io.StringIO()).speak.aio(word)
        return out.getvalue()

    async def main() -> list[str]:
        return await asyncio.gather(*(speak(f"word {n}") for n in range(20)))

    assert asyncio.run(main()) == [f"word {n}\n" for n in range(20)]


def test_limits(place: gvm.Node | gvm.Peer) -> None:
    begun = time.monotonic()
    with pytest.raises(gvm.Timeout) as raised:
        place.module("spin").spin.options(timeout=0.1)()
    assert isinstance(raised.value, TimeoutError) and raised.value.outcome == "ran-and-failed"
    assert time.monotonic() - begun < 2
    for timeout in ("100ms", datetime.timedelta(milliseconds=100)):
        with pytest.raises(gvm.Timeout):
            place.module("spin", timeout=timeout).spin()
        with pytest.raises(gvm.Timeout):
            place.run("spin.spin", timeout=timeout) if isinstance(place, gvm.Peer) else place.run(
                None, "spin.spin", timeout=timeout
            )
    with pytest.raises(gvm.LimitExceeded, match="memory"):
        place.module("values", max_memory="3MiB").hold(64 << 20)
    with pytest.raises(gvm.LimitExceeded, match="output"):
        place.module("values", max_output=10, stdout=lambda _: None, stderr=lambda _: None).speak("x" * 100)
    with pytest.raises(gvm.LimitExceeded):
        place.module("spin", fuel=100_000).spin()
    for wrong in ({"timeout": -1}, {"timeout": "soon"}, {"max_memory": "much"}, {"fuel": -1}):
        with pytest.raises(gvm.BadArguments):
            place.module("spin", **wrong)


def test_main(place: gvm.Node | gvm.Peer, capsys: pytest.CaptureFixture[str]) -> None:
    place.module("math")()
    assert capsys.readouterr().out == "Reponse from the math module...\n"
    with pytest.raises(gvm.GuestExit) as raised:
        place.module("leave")()
    assert raised.value.status not in (0, None) and raised.value.outcome == "ran-and-failed"
    with pytest.raises(gvm.FunctionNotFound):
        place.module("lists")()


def test_traps(place: gvm.Node | gvm.Peer) -> None:
    values = place.module("values")
    with pytest.raises(gvm.Trap) as raised:
        values.trap_unreachable()
    assert raised.value.outcome == "ran-and-failed" and "trap-unreachable" in (raised.value.context or "")
    with pytest.raises(gvm.GuestExit) as left:
        values.leave(3)
    # WASI preview 2 reports a failure without its status.
    assert left.value.status == 1
