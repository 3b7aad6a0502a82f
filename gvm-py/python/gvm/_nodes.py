"""Nodes.

In: what a person asks of a node. Out: names, peers, modules, results of calls. Settings have one order:
argument, environment, default. Must not know: pools, private networks.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from . import _check, _gvm, _html, _life
from ._errors import BadArguments, Closed
from ._events import Event, Events, tell
from ._loop import Steps, twin
from ._module import Instance, Module
from ._peers import Peer
from ._targets import Target, check_target, name_of, read

Names = list[str]

_FUNCTIONS = 256
"""How many functions a node keeps that were called by name."""


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
            "name": _check.optional_text("name", name),
            "home": _check.path("home", home),
            "gpmd": _check.optional_text("gpmd", gpmd) or None,
            "listen": _check.optional_text("listen", listen),
            "python": python(),
            **settings(accept, dirs, env, allow_net, grant, allow_calls, session_time),
        }
        _check.function("on_event", on_event)
        self._lease: object = None
        """What keeps a private network that this is a node of."""
        self._apart: set[str] = set()
        """The nodes that were disconnected here by somebody, and are not to be connected with again unasked."""
        self._core: _gvm.Node = _gvm.Node.start(config, options).wait()
        self._functions: dict[tuple[str | None, str], _gvm.Function] = {}
        self.name: str = self._core.name
        self.id: str = self._core.id
        self.home = Path(config["home"])
        _life.keep(self)
        if on_event is not None:
            arguments = (self.events(), on_event)
            threading.Thread(target=tell, args=arguments, name="gvm-events", daemon=True).start()

    @twin
    def discover(self) -> Steps[Names]:
        """The names of every live node of the home, this one included, sorted."""
        self._check()
        names: Names = yield self._core.discover()
        return names

    @twin
    def connect(self, name: str | Peer | Node) -> Steps[Peer]:
        """Connects with a node; from then on both can run things on each other. Doing so twice is harmless."""
        self._check()
        other = name_of("name", name)
        yield self._core.connect(other)
        self._apart.discard(other)
        return Peer(self, other)

    @twin
    def list(self) -> Steps[Names]:
        """The names of the connected nodes, sorted."""
        names: Names = yield from self._list()
        return names

    def _list(self) -> Steps[Names]:
        self._check()
        names: Names = yield self._core.list()
        return names

    @twin
    def disconnect(self, name: str | Peer | Node) -> Steps[None]:
        """Ends the connection with a node."""
        yield from self._disconnect(name_of("name", name))

    def _disconnect(self, name: str) -> Steps[None]:
        self._check()
        self._apart.add(name)
        yield self._core.disconnect(name)

    @twin
    def revoke(self, name: str | Peer | Node) -> Steps[None]:
        """Ends the session that a node holds here: its calls here stop, and it does not come back by itself."""
        self._check()
        other = name_of("name", name)
        self._apart.add(other)
        yield self._core.revoke(other)

    @twin
    def answer(self, event: Event, yes: bool) -> Steps[None]:
        """Answers an `asked` event: whether the node may connect."""
        self._check()
        if not isinstance(event, Event) or event.kind != "asked" or event.number is None:
            _check.refuse("event", "an event of the kind `asked`", event)
        yield self._core.answer(event.number, _check.flag("yes", yes))

    @twin
    def run(self, node: str | Peer | Node | None, target: Target, *args: Any, **options: Any) -> Steps[Any]:
        """Calls a function on a connected node (`None`, or this node's own name: here), or runs a module's main
        there.

        `node.run("node-8399", "math.add", 34, 34)`; `node.run("node-8399", "math.add(34, 34)")`. Options:
        `timeout`, `max_memory`, `max_output`, `fuel`, `stdout`, `stderr`.
        """
        place = None if node is None else name_of("node", node)
        result = yield from self._run(place, target, args, options)
        return result

    def _run(self, place: str | None, target: Target, args: tuple[Any, ...], options: dict[str, Any]) -> Steps[Any]:
        self._check()
        match check_target(target, args):
            case "function":
                function = yield from self._function(place, target)
                return (yield function.prepare(args, None, options))
            case "text":
                return (yield self._core.evaluate(place, target, options))
            case _:
                return (yield self._core.main(place, target, list(args), options))

    def _function(self, place: str | None, target: Target) -> Steps[_gvm.Function]:
        known = self._functions.get((place, target))
        if known is None:
            known = yield self._core.function(place, target)
            if len(self._functions) >= _FUNCTIONS:
                self._functions.clear()
            self._functions[place, target] = known
        return known

    def _main(self, place: str | None, target: str, argv: tuple[str, ...], options: dict[str, Any]) -> Steps[None]:
        self._check()
        yield self._core.main(place, target, _check.texts("argv", argv), options)

    @twin
    def module(self, name: str, /, **options: Any) -> Steps[Module]:
        """A module of the home as an object, to be run here. Fails at once where there is none of this name."""
        self._check()
        return Module((yield self._core.module(None, _check.text("name", name), options)), self)

    @twin
    def spawn(self, module: str, /, **options: Any) -> Steps[Instance]:
        """A live instance of a module, here, that keeps its state between calls."""
        self._check()
        return Instance((yield self._core.spawn(None, _check.text("module", module), options)), self)

    def instances(self) -> dict[str, tuple[str, str]]:
        """The live instances spawned by this node: their names, and the module and node of each."""
        self._check()
        return {name: (module, node) for name, module, node in self._core.instances()}

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[Names]:
        """Uploads a module to the home: a path of `.wasm` or `.wat`, or the bytes. Gives its signatures."""
        self._check()
        words = _check.text("name", name), _check.text("version", version)
        signatures: Names = yield _gvm.upload(self.home, *words, read(source))
        return signatures

    def events(self) -> Events:
        """What happens to this node from now on."""
        self._check()
        return Events(self._core.events())

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._core.closed

    @twin
    def close(self, *, hurry: bool = False) -> Steps[None]:
        """Says goodbye to every peer and to gpmd, and ends. What runs for peers, or on them, has some seconds to
        end, or none where there is a `hurry`. Doing so again changes nothing."""
        _check.flag("hurry", hurry)
        if not self._core.closed:
            yield self._core.ending().shut_down(hurry)

    def _leave(self) -> None:
        self.close(hurry=True)

    def _check(self) -> None:
        if self._core.closed:
            raise Closed(f"the node `{self.name}` has been closed")

    def __enter__(self) -> Node:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Node:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        await self.close.aio()

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.Node cannot be pickled or copied: it lives in this process. Other processes connect with it by its name")

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<gvm.Node {self.name} ({self.id}){state}>"

    def _repr_html_(self) -> str:
        state = "closed" if self.closed else ", ".join(self.list()) or "none"
        rows = [("id", self.id), ("home", self.home), ("address", self._core.address), ("peers", state)]
        return _html.table(f"node {self.name}", ("", ""), rows)


def python() -> str:
    """This Python, which children are started with."""
    return sys.executable or "python3"


def settings(
    accept: str | Iterable[str] = "all",
    dirs: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    allow_net: Iterable[str] = (),
    grant: Iterable[str] = (),
    allow_calls: Iterable[str] = (),
    session_time: float | None = None,
) -> dict[str, Any]:
    """What a node grants and accepts, checked, as Rust takes it."""
    return {
        "accept": accept if isinstance(accept, str) else ",".join(_check.texts("accept", accept)),
        "dirs": [_dir(text) for text in _check.texts("dirs", dirs)],
        "env": _check.pairs("env", env),
        "allow_net": _check.texts("allow_net", allow_net),
        "nodes": _grants(_check.texts("grant", grant)),
        "allow_calls": _check.texts("allow_calls", allow_calls),
        "session_time": _check.seconds("session_time", session_time),
    }


def _grants(words: list[str]) -> bool:
    """Whether `nodes` is granted, which is all there is to grant so."""
    for word in words:
        if word != "nodes":
            raise BadArguments(f"grant: {word!r} cannot be granted: `nodes` can")
    return bool(words)


def _dir(text: str) -> tuple[str, str, bool]:
    """`HOST`, `HOST::GUEST` or `HOST::GUEST::ro`."""
    host, *rest = text.split("::")
    if len(rest) > 2 or rest[1:] not in ([], ["ro"], ["rw"]):
        raise BadArguments(f"dirs: expected HOST, HOST::GUEST or HOST::GUEST::ro, found {text!r}")
    return host, rest[0] if rest else host, rest[1:] == ["ro"]
