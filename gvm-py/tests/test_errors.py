"""Errors: their code, message and help, and how a traceback, a pickle and a copy show them."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gvm
import pytest
from gvm import _codes, _errors, _network

from conftest import python

CLASSES = [*_errors.CLASSES.values(), gvm.Closed]


def shown(error: BaseException) -> str:
    """Returns the traceback of an error, as Python prints it."""
    return "".join(traceback.format_exception(error))


def failed(ask: Callable[[], Any]) -> gvm.Error:
    """Returns the error that a call raises, after checks that hold for every error."""
    with pytest.raises(gvm.Error) as raised:
        ask()
    error = raised.value
    check(error)
    return error


def check(error: gvm.Error) -> None:
    assert error.code in _errors.CLASSES and isinstance(error, _errors.CLASSES[error.code])
    assert error.message and "\n" not in error.message and str(error).startswith(f"{error.code}: {error.message}")
    assert error.help is None or isinstance(error.help, str)
    if error.help is None:
        assert "help: " not in shown(error)
    else:
        assert error.help and "\n" not in error.help
        assert error.help not in str(error)
        assert shown(error).count(f"\nhelp: {error.help}\n") == 1 == shown(error).count("help: ")


def copies(error: gvm.Error) -> list[gvm.Error]:
    protocols = range(pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(error, protocol)) for protocol in protocols]
    twice = pickle.loads(pickle.dumps(pickled[-1]))
    return [*pickled, twice, copy.copy(error), copy.deepcopy(error)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class(kind: type[gvm.Error]) -> None:
    assert kind.__module__ == gvm.Error.__module__ == gvm.WitError.__module__ == "gvm._errors"
    assert getattr(gvm, kind.__name__) is kind and kind.__name__ in gvm.__all__ and kind.__doc__
    plain = kind("what happened")
    assert plain.help is None and not hasattr(plain, "__notes__") and plain.outcome == "not-started"
    error = kind("what happened", outcome="unknown", context="  more", help="do this", status=3)
    assert (error.help, error.__notes__) == ("do this", ["help: do this"])
    assert str(error) == f"{kind.code}: what happened\n  more"
    for each in (plain, error, *copies(plain), *copies(error)):
        check(each)
    lines = shown(error).splitlines()
    assert lines == [f"gvm._errors.{kind.__name__}: {kind.code}: what happened", "  more", "help: do this"]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_pickles_and_copies(kind: type[gvm.Error]) -> None:
    error = kind("what happened", context="  more", help="do this")
    error.add_note("in item 7")
    for again in copies(error):
        assert type(again) is kind and vars(again) == vars(error) and str(again) == str(error)
        assert again.__notes__ == ["help: do this", "in item 7"]


def test_the_generated_classes_are_all_exported() -> None:
    generated = {name for name, thing in vars(_codes).items() if isinstance(thing, type) and thing is not gvm.Error}
    assert generated == {kind.__name__ for kind in _errors.CLASSES.values()}
    assert all(getattr(_errors, name) is getattr(_codes, name) is getattr(gvm, name) for name in generated)


def test_help_is_shown_once_however_often_it_is_raised() -> None:
    error = gvm.NodeNotFound("no running node is named `b`", help="do this")
    for _ in range(3):
        assert failed(lambda: (_ for _ in ()).throw(error)) is error
    try:
        raise gvm.Internal("the cause is another error") from error
    except gvm.Internal as outer:
        assert shown(outer).count("help: do this") == 1


def test_errors_of_nodes(net: gvm.LocalNetwork, node: gvm.Node, tmp_path: Path) -> None:
    unknown = failed(lambda: node.run(None, "xylophone.play"))
    assert isinstance(unknown, gvm.ModuleNotFound) and "`xylophone`" in unknown.message
    assert "Module.list()" in (unknown.help or "")
    assert failed(lambda: node.module("xylophone")).help == unknown.help
    nobody = failed(lambda: node.connect("xylophone"))
    assert isinstance(nobody, gvm.NodeNotFound) and "`xylophone`" in nobody.message
    apart = failed(lambda: node.disconnect("node-3"))
    assert isinstance(apart, gvm.NodeNotConnected) and "connect" in (apart.help or "")
    alone = failed(lambda: gvm.Node(home=tmp_path / "home"))
    assert isinstance(alone, gvm.GpmdNotRunning) and "gpmd start" in (alone.help or "")
    (tmp_path / "open").mkdir(mode=0o755)
    opened = failed(lambda: gvm.Node(home=tmp_path / "open"))
    assert isinstance(opened, gvm.HomeInsecure) and "chmod 700" in (opened.help or "")
    for again in copies(unknown):
        assert again.help == unknown.help and vars(again) == vars(unknown)
    place = failed(lambda: node.module("math.add"))
    assert isinstance(place, gvm.Syntax) and "`math@1.0.0`" in (place.help or "")


def test_errors_of_futures_and_maps(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    with gvm.Pool([node]) as pool:
        future = pool.submit("xylophone.play")
        first, again = failed(lambda: future.result(20)), failed(lambda: future.result(20))
        assert first is again and first.help
        mapped = failed(lambda: list(pool.map("xylophone.play", [7])))
        assert mapped.__notes__ == [f"help: {first.help}", "in item 0: xylophone.play(7)"] and mapped.index == 0


def test_errors_that_python_raises(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    option = failed(lambda: gvm.LocalNetwork(proccesses=True))
    assert "'proccesses'" in option.message and (option.help or "").startswith("a network takes accept, ")
    target = failed(lambda: node.run(None, "slow.add(1, 2)", 3))
    assert target.help == "put the arguments into the target, or pass them after it"
    with gvm.LocalNetwork(nodes=2) as other:
        other.upload("math", "1.0.0", b"(module)")
        peer = other.node.connect("node-2")
        live = other.node.spawn("math")
        live.close()
        assert failed(live.__enter__).help == "make a new one with `node.spawn`"
        peer.disconnect()
        assert failed(lambda: peer.module("math")).help == "call `node.connect('node-2')` first"
        pool = gvm.Pool(other.nodes)
        pool.shutdown()
        assert failed(lambda: pool.submit("math.add")).help == "make a new `gvm.Pool`"
    closed = failed(lambda: other.node.discover())
    assert closed.message == "the node `node-1` is closed" and closed.help == "make a new `gvm.Node`"
    assert failed(lambda: other.pool).help == "make a new `gvm.LocalNetwork`"


def test_errors_that_rust_raises(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    option = failed(lambda: node.run(None, "slow.add", 1, 2, tiemout=3))
    assert option.message == 'unexpected keyword argument "tiemout"'
    assert option.help == "a call takes timeout, max_memory, max_output, fuel, stdout and stderr"
    inexact = failed(lambda: node.module("lists").floats([2**53 + 1]))
    assert inexact.help == "to round it, pass `float(…)` of it" and "floats: func(" in (inexact.context or "")
    with gvm.Node("passing", home=net.home) as passing:
        function = passing.module("slow").add
    closed = failed(lambda: function(1, 2))
    assert closed.message == "the node `passing` is closed" and closed.help == "make a new `gvm.Node`"
    with node.spawn("counter") as live:
        peer = node.connect("node-2")
        moved = failed(lambda: peer.run(f"{live.id}.increment"))
        assert isinstance(moved, gvm.InstanceNotFound) and "`node-1`" in moved.message
        assert moved.help == f"call `{live.id}` without naming a node"


@pytest.mark.parametrize("make", [lambda node: node, lambda node: node.module("slow").add])
def test_type_errors_have_help_as_a_note(node: gvm.Node, make: Callable[[gvm.Node], Any]) -> None:
    with pytest.raises(TypeError, match="cannot be pickled or copied: it belongs to ") as raised:
        pickle.dumps(make(node))
    [note] = raised.value.__notes__
    assert note.startswith("help: pass the name") and shown(raised.value).count("help: ") == 1


def test_a_missing_package(net: gvm.LocalNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tqdm", "tqdm.auto"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match="progress=True needs the package `tqdm`") as raised:
        net.map("slow.add", [1], [2], progress=True)
    assert raised.value.__notes__ == ["help: run `pip install 'gvm[progress]'`"]


def test_errors_of_child_processes(tmp_path: Path) -> None:
    """A node in its own process reports all parts of its error, and the parent raises the same error."""
    (tmp_path / "home").mkdir(mode=0o755)
    config = {"name": "child", "home": str(tmp_path / "home"), "temporary": str(tmp_path / "none-such")}
    command = [sys.executable, "-P", "-m", "gvm._node", json.dumps(config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    said = json.loads(done.stdout)
    assert done.returncode == 1 and said["code"] == "HOME_INSECURE" and "chmod 700" in said["help"]
    line = json.dumps({**said, "context": "  more"})
    child = subprocess.Popen([sys.executable, "-c", f"print({line!r})"], stdout=subprocess.PIPE)
    error = failed(lambda: _network._ready(child))
    assert isinstance(error, gvm.HomeInsecure) and child.wait(20) == 0
    assert (error.message, error.context, error.help) == (said["message"], "  more", said["help"])
    silent = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], stdout=subprocess.PIPE)
    ended = failed(lambda: _network._ready(silent))
    assert isinstance(ended, gvm.Internal) and "ended with status 3" in ended.message and ended.help


def test_an_uncaught_error_in_a_program() -> None:
    """Python prints the code, the message and, once, the help."""
    process = python("""
        import gvm
        raise gvm.NodeNotFound("no running node is named `b`", help="start it with `gvm --name b`")
        """)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and err.splitlines()[-2:] == [
        "gvm._errors.NodeNotFound: NODE_NOT_FOUND: no running node is named `b`",
        "help: start it with `gvm --name b`",
    ]
