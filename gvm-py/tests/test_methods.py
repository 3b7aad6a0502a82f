"""Methods with an awaitable twin behave like plain methods, taken from the class or from an object."""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import pickle
import pydoc
from collections.abc import Callable
from typing import Any
from unittest import mock

import gvm
import pytest

CLASSES = [gvm.Node, gvm.Peer, gvm.Instance, gvm.LocalNetwork, gvm.Pool, gvm.Events, gvm.Network]
TWINS = [
    (kind, name)
    for kind in CLASSES
    for name in vars(kind)
    if not name.startswith("_") and hasattr(getattr(kind, name), "aio")
]


def test_there_are_some() -> None:
    assert {(gvm.Node, "connect"), (gvm.Peer, "run"), (gvm.Pool, "submit"), (gvm.Events, "get")} <= {*TWINS}
    assert len(TWINS) > 20


@pytest.mark.parametrize("kind, name", TWINS, ids=lambda part: getattr(part, "__name__", part))
def test_they_are_functions_of_their_class(kind: type, name: str) -> None:
    method = getattr(kind, name)
    assert method.__name__ == name and method.__qualname__ == f"{kind.__name__}.{name}"
    assert method.__module__ == kind.__module__ and method.__doc__ and inspect.getdoc(method)
    assert callable(method) and inspect.isfunction(method) and inspect.isroutine(method)
    assert not inspect.isgeneratorfunction(method) and not inspect.iscoroutinefunction(method)
    signature = inspect.signature(method)
    assert next(iter(signature.parameters)) == "self" and "Steps" not in str(signature)
    assert "def " + name in inspect.getsource(method)
    assert pickle.loads(pickle.dumps(method)) is method is copy.copy(method) is copy.deepcopy(method)
    assert kind.__name__ in repr(method)
    shown = pydoc.render_doc(kind, renderer=pydoc.plaintext)
    assert f"{name}(self" in shown
    assert method.__doc__.split("\n")[0][:40] in pydoc.render_doc(method, renderer=pydoc.plaintext)


def test_they_can_be_called(net: gvm.LocalNetwork, node: gvm.Node) -> None:
    peer = gvm.Node.connect(node, "node-2")
    assert isinstance(peer, gvm.Peer) and gvm.Node.discover(node) == node.discover()
    assert gvm.Node.run(node, "node-2", "slow.add", 1, 2) == gvm.Peer.run(peer, "slow.add", 1, 2) == 3
    assert asyncio.run(gvm.Node.run.aio(node, None, "slow.add", 1, 2)) == 3
    assert gvm.LocalNetwork.submit(net, "slow.add", 1, 2).result(20) == 3
    assert asyncio.run(gvm.Pool.submit.aio(net.pool, "slow.add", 1, 2)) == 3
    assert functools.partial(gvm.Node.run, node, None)("slow.add", 1, 2) == 3
    assert functools.partial(node.run, None)("slow.add", 1, 2) == 3
    assert list(map(node.connect, ["node-2"])) == [peer]
    for ask in (gvm.Node.connect, lambda: gvm.Node.connect(node), lambda: gvm.Node.connect(node, "node-2", 7)):
        with pytest.raises(TypeError):
            ask()


def test_methods_of_objects(node: gvm.Node) -> None:
    run = node.run
    assert inspect.ismethod(run) and run.__self__ is node and run.__func__ is gvm.Node.run
    assert run.__name__ == "run" and run.__qualname__ == "Node.run" and run.__doc__ == gvm.Node.run.__doc__
    assert list(inspect.signature(run).parameters) == ["node", "target", "args", "options"]
    assert str(inspect.signature(node.list)) == "() -> Names"
    assert run == node.run != node.list and hash(run) == hash(node.run) and len({run, node.run}) == 1
    assert "Node.run" in repr(run) and "connect(name" in pydoc.render_doc(node.connect, renderer=pydoc.plaintext)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(run)


def test_subclasses(net: gvm.LocalNetwork) -> None:
    class Loud(gvm.Node):
        said: list[str] = []

        def connect(self, name: Any) -> gvm.Peer:  # type: ignore[override]
            self.said.append(name)
            return super().connect(name)

    with Loud("loud", home=net.home) as loud:
        assert loud.connect("node-1").run("slow.add", 1, 2) == 3 and loud.said == ["node-1"]
        assert Loud.list(loud) == ["node-1"]


@pytest.mark.parametrize("make", [lambda: gvm.Node, lambda: gvm.Peer, lambda: gvm.LocalNetwork, lambda: gvm.Pool])
def test_mocks(make: Callable[[], type]) -> None:
    kind = make()
    for mocked in (mock.create_autospec(kind), mock.create_autospec(kind, instance=True)):
        for _, name in (twin for twin in TWINS if twin[0] is kind):
            getattr(mocked, name).return_value = 7
    node = mock.create_autospec(gvm.Node, instance=True)
    node.connect.return_value.run.return_value = 3
    assert node.connect("x").run("math.add", 1, 2) == 3
    node.connect.assert_called_once_with("x")
    assert mock.create_autospec(gvm.Node).connect("x") is not None
    for wrong in (lambda: node.connect(), lambda: node.connect("x", "y"), lambda: node.close(False), lambda: node.no()):
        with pytest.raises((TypeError, AttributeError)):
            wrong()
    function = mock.create_autospec(gvm.Node.connect, return_value=5)
    assert function(None, "x") == 5
    with pytest.raises(TypeError):
        function()


def test_mocks_of_objects(node: gvm.Node) -> None:
    mocked = mock.create_autospec(node)
    mocked.discover.return_value = ["a"]
    assert mocked.discover() == ["a"]
    with pytest.raises(TypeError):
        mocked.connect()
    with mock.patch.object(gvm.Node, "discover", return_value=["b"]):
        assert node.discover() == ["b"]
    assert "node-1" in node.discover()


def test_what_cannot_be_pickled_says_so(net: gvm.LocalNetwork, node: gvm.Node, peer: gvm.Peer) -> None:
    math, results = node.module("slow"), net.map("slow.add", [1], [2])
    with node.spawn("counter") as live:
        things = [
            node, peer, net, net.pool, math, math.add, math.add.aio, live, live.increment, node.events(),
            net.submit("slow.add", 1, 2), results, node.module("values").left,
        ]
        for thing in things:
            for ask in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError, match="cannot be pickled or copied"):
                    ask(thing)
    assert list(results) == [3]
