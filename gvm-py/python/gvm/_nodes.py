"""Nodes and peers.

In: what a person asks of a node. Out: names, peers, modules, results of calls. Settings have one order:
argument, environment, default. Must not know: pools, private networks.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from . import _gvm, _html, _life
from ._errors import NodeDown, NodeNotConnected
from ._loop import Steps, twin
from ._module import Instance, Module

Names = list[str]

Target = str
"""What is called, as the REPL has it: `math.add`, `math@1.0.0.add`, `math."ns:pkg/iface".add`; `math` alone is
the module's main; `math.add(1, 2)` has its arguments with it."""

_FUNCTIONS = 256
"""How many functions a node keeps that were called by name."""

_target_kind = functools.lru_cache(maxsize=1024)(_gvm.target_kind)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a node without its asking."""

    kind: Literal[
        "connected", "down", "gpmd-lost", "gpmd-back", "gpmd-refused", "asked", "ask-ended", "waiting", "leaving"
    ]
    node: str | None = None
    """The node that connected, went, or asks to connect (`asked`: `node.answer(event, True)`)."""
    why: str | None = None
    """Why it went (`disconnected`, `connection lost`, `shut down`), or how a question ended."""
    number: int | None = None
    """Of a question, which; of a node that is leaving, how many calls it waits for."""


class Events:
    """What happens to a node from now on, in order: iterate over it, or `async for`. It ends with the node."""

    def __init__(self, core: _gvm.Events) -> None:
        self._core = core

    @twin
    def get(self, timeout: float | None = None) -> Steps[Event | None]:
        """The next event; None where none came within `timeout` seconds, or the node has ended."""
        words = yield self._core.next(timeout)
        return None if words is None else Event(*words)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.get, None)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        event = await self.get.aio()
        if event is None:
            raise StopAsyncIteration
        return event


class Node:
    """A node of this device's network: it registers with the home's gpmd and can run modules here and, once
    connected, on other nodes. It ends with `close()`, its `with` block, or the process.

    `home`, `gpmd`, `listen`, `accept`, `dirs` (`"HOST::GUEST::ro"`), `env`, `allow_net`, `grant`, `allow_calls`
    and `session_time` (seconds) mean what the flags of `gvm` mean. With `accept="ask"` whoever reads the events
    answers. `timeout` (seconds, or `"500ms"`), `max_memory`, `max_output` (`"64MiB"`), `fuel`,
    `stdout` and `stderr` are what its calls have unless they say otherwise. May be shared by threads.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        gpmd: str | None = None,
        listen: str | None = None,
        accept: str | Iterable[str] = "all",
        dirs: Iterable[str] = (),
        env: Mapping[str, str] | None = None,
        allow_net: Iterable[str] = (),
        grant: Iterable[str] = (),
        allow_calls: Iterable[str] = (),
        session_time: float | None = None,
        on_event: Callable[[Event], object] | None = None,
        **options: Any,
    ) -> None:
        if home is None:
            home = os.environ.get("GHOST_HOME") or Path.home() / ".ghost-network"
            gpmd = gpmd or os.environ.get("GPMD_ADDRESS")
        config = {
            "name": name,
            "home": os.fspath(home),
            "gpmd": gpmd or None,
            "listen": listen,
            "accept": accept if isinstance(accept, str) else ",".join(accept),
            "python": python(),
            "dirs": [_dir(text) for text in dirs],
            "env": [*(env or {}).items()],
            "allow_net": [*allow_net],
            "nodes": _grants(grant),
            "allow_calls": [*allow_calls],
            "session_time": session_time,
        }
        self._closed = False
        self._network: object = None
        """The private network that lives as long as this node of it."""
        self._core: _gvm.Node = _gvm.Node.start(config, options).wait()
        self._functions: dict[tuple[str | None, str], _gvm.Function] = {}
        self.name: str = self._core.name
        self.id: str = self._core.id
        self.home = Path(home)
        _life.keep(self)
        if on_event is not None:
            arguments = (self.events(), on_event)
            threading.Thread(target=_tell, args=arguments, name="gvm-events", daemon=True).start()

    @twin
    def discover(self) -> Steps[Names]:
        """The names of every live node of the home, this one included, sorted."""
        names: Names = yield self._core.discover()
        return names

    @twin
    def connect(self, name: str) -> Steps[Peer]:
        """Connects with a node; from then on both can run things on each other. Doing so twice is harmless."""
        yield self._core.connect(name)
        return Peer(self, name)

    @twin
    def list(self) -> Steps[Names]:
        """The names of the connected nodes, sorted."""
        names: Names = yield self._core.list()
        return names

    @twin
    def disconnect(self, name: str | Peer) -> Steps[None]:
        """Ends the connection with a node."""
        yield self._core.disconnect(_name(name))

    @twin
    def revoke(self, name: str | Peer) -> Steps[None]:
        """Ends the session that a node holds here: its calls here stop, and it does not come back by itself."""
        yield self._core.revoke(_name(name))

    @twin
    def answer(self, event: Event, yes: bool) -> Steps[None]:
        """Answers an `asked` event: whether the node may connect."""
        if event.kind != "asked" or event.number is None:
            raise ValueError(f"{event} asks nothing")
        yield self._core.answer(event.number, yes)

    @twin
    def run(self, node: str | Peer | Node | None, target: Target, *args: Any, **options: Any) -> Steps[Any]:
        """Calls a function on a connected node (`None`, or this node's own name: here), or runs a module's main
        there.

        `node.run("node-8399", "math.add", 34, 34)`; `node.run("node-8399", "math.add(34, 34)")`. Options:
        `timeout`, `max_memory`, `max_output`, `fuel`, `stdout`, `stderr`.
        """
        result = yield from self._run(None if node is None else _name(node), target, args, options)
        return result

    def _run(self, place: str | None, target: Target, args: tuple[Any, ...], options: dict[str, Any]) -> Steps[Any]:
        self._check()
        match _target_kind(target):
            case "function":
                function = yield from self._function(place, target)
                return (yield function.prepare(args, None, options))
            case "text" if args:
                raise TypeError(f"{target!r} has its arguments with it already")
            case "text":
                return (yield self._core.evaluate(place, target, options))
            case _:
                return (yield from self._main(place, target, args, options))

    def _function(self, place: str | None, target: Target) -> Steps[_gvm.Function]:
        known = self._functions.get((place, target))
        if known is None:
            known = yield self._core.function(place, target)
            if len(self._functions) >= _FUNCTIONS:
                self._functions.clear()
            self._functions[place, target] = known
        return known

    def _main(self, place: str | None, target: str, argv: tuple[str, ...], options: dict[str, Any]) -> Steps[None]:
        yield self._core.main(place, target, list(argv), options)

    @twin
    def module(self, name: str, /, **options: Any) -> Steps[Module]:
        """A module of the home as an object, to be run here. Fails at once where there is none of this name."""
        self._check()
        return Module((yield self._core.module(None, name, options)), self)

    @twin
    def spawn(self, module: str, /, **options: Any) -> Steps[Instance]:
        """A live instance of a module, here, that keeps its state between calls."""
        self._check()
        return Instance((yield self._core.spawn(None, module, options)), self)

    def instances(self) -> dict[str, tuple[str, str]]:
        """The live instances spawned by this node: their names, and the module and node of each."""
        return {name: (module, node) for name, module, node in self._core.instances()}

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[Names]:
        """Uploads a module to the home: a path of `.wasm` or `.wat`, or the bytes. Gives its signatures."""
        signatures: Names = yield _gvm.upload(self.home, name, version, read(source))
        return signatures

    def events(self) -> Events:
        """What happens to this node from now on."""
        return Events(self._core.events())

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    @twin
    def close(self, *, hurry: bool = False) -> Steps[None]:
        """Says goodbye to every peer and to gpmd, and ends. What runs for peers, or on them, has some seconds to
        end, or none where there is a `hurry`. Doing so again changes nothing."""
        if not self._closed:
            self._closed = True
            yield self._core.shut_down(hurry)

    def _leave(self) -> None:
        self.close(hurry=True)

    def _check(self) -> None:
        if self._closed:
            raise NodeDown(f"the node `{self.name}` has been closed")

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Node:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close.aio()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<gvm.Node {self.name} ({self.id}){state}>"

    def _repr_html_(self) -> str:
        state = "closed" if self._closed else ", ".join(self.list()) or "none"
        rows = [("id", self.id), ("home", self.home), ("address", self._core.address), ("peers", state)]
        return _html.table(f"node {self.name}", ("", ""), rows)


class Peer:
    """A connected node, on which things can be run."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        """The node here that is connected with it."""
        self.name = name

    @twin
    def run(self, target: Target, *args: Any, **options: Any) -> Steps[Any]:
        """Calls a function there, or runs a module's main there; as `Node.run`."""
        result = yield from self.node._run(self.name, target, args, options)
        return result

    @twin
    def module(self, name: str, /, **options: Any) -> Steps[Module]:
        """A module of the home as an object, to be run there. Fails at once where there is none of this name."""
        yield from self._check()
        return Module((yield self.node._core.module(self.name, name, options)), self.node)

    @twin
    def spawn(self, module: str, /, **options: Any) -> Steps[Instance]:
        """A live instance of a module, there, that keeps its state between calls."""
        self.node._check()
        return Instance((yield self.node._core.spawn(self.name, module, options)), self.node)

    @twin
    def discover(self) -> Steps[Names]:
        """The names of every live node of the home, sorted: the same from every node."""
        names: Names = yield self.node._core.discover()
        return names

    @twin
    def disconnect(self) -> Steps[None]:
        """Ends the connection."""
        yield self.node._core.disconnect(self.name)

    def _check(self) -> Steps[None]:
        self.node._check()
        if self.name != self.node.name and self.name not in (yield self.node._core.list()):
            raise NodeNotConnected(f"not connected with `{self.name}`: node.connect({self.name!r}) first")

    @property
    def connected(self) -> bool:
        """Whether it is connected still."""
        return not self.node.closed and self.name in self.node.list()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and (other.node, other.name) == (self.node, self.name)

    def __hash__(self) -> int:
        return hash((self.node, self.name))

    def __repr__(self) -> str:
        return f"<gvm.Peer {self.name} of {self.node.name}>"

    def _repr_html_(self) -> str:
        state = "connected" if self.connected else "not connected"
        return _html.table(f"peer {self.name}", ("", ""), [("of node", self.node.name), ("state", state)])


def python() -> str:
    """This Python, which children are started with."""
    return sys.executable or "python3"


def read(source: str | os.PathLike[str] | bytes) -> bytes:
    """A module's bytes, from wherever they are."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    return Path(source).read_bytes()


def _name(node: str | Peer | Node) -> str:
    return node if isinstance(node, str) else node.name


def _grants(words: Iterable[str]) -> bool:
    """Whether `nodes` is granted, which is all there is to grant so."""
    granted = {*words}
    if strange := granted - {"nodes"}:
        raise ValueError(f"{strange.pop()!r} cannot be granted: `nodes` can")
    return bool(granted)


def _dir(text: str) -> tuple[str, str, bool]:
    """`HOST`, `HOST::GUEST` or `HOST::GUEST::ro`."""
    host, *rest = str(text).split("::")
    if len(rest) > 2 or rest[1:] not in ([], ["ro"], ["rw"]):
        raise ValueError(f"{text!r}: expected HOST, HOST::GUEST or HOST::GUEST::ro")
    return host, rest[0] if rest else host, rest[1:] == ["ro"]


def _tell(events: Events, on_event: Callable[[Event], object]) -> None:
    while (event := events.get()) is not None:
        try:
            on_event(event)
        except Exception:
            sys.excepthook(*sys.exc_info())
