"""The class `Node`.

In: arguments of methods. Out: names, peers, modules, results of calls. A setting comes from the argument, else from
the environment, else it has a default. Must not know: pools, private networks.
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
"""How many functions a node caches that were called by name."""


class Node:
    """A node of the home's network. It registers with the home's gpmd and runs modules here and on connected nodes.

    It ends with `close()`, at the end of its `with` block, or with the process. Threads may share it.

    `home`, `gpmd`, `listen`, `accept`, `dirs` (`"HOST::GUEST::ro"`), `env`, `allow_net`, `grant`, `allow_calls`,
    `modules` (`"any"` or `"own"`) and `session_time` (seconds) mean the same as the flags of `gvm`. With `accept="ask"`, answer the questions among
    the events. `on_event` is called with each event, on a thread of its own. The options `timeout` (seconds, or
    `"500ms"`), `max_memory`, `max_output` (`"64MiB"`), `fuel`, `stdout` and `stderr` are the defaults of its calls.
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
        modules: str = "any",
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
            **settings(accept, dirs, env, allow_net, grant, allow_calls, modules, session_time),
        }
        _check.function("on_event", on_event)
        self._lease: object = None
        """Keeps the private network of this node alive."""
        self._apart: set[str] = set()
        """The nodes that the caller disconnected. A pool does not reconnect to them by itself."""
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
        """Returns the names of all running nodes of the home, including this one, sorted."""
        self._check()
        names: Names = yield self._core.discover()
        return names

    @twin
    def connect(self, name: str | Peer | Node) -> Steps[Peer]:
        """Connects to a node. Both nodes can then run modules on each other. Connecting twice is harmless."""
        self._check()
        # The answer has the device in the name, if that is another one.
        other: str = yield self._core.connect(name_of("name", name))
        self._apart.discard(other)
        return Peer(self, other)

    @twin
    def list(self) -> Steps[Names]:
        """Returns the names of the connected nodes, sorted."""
        names: Names = yield from self._list()
        return names

    def _list(self) -> Steps[Names]:
        self._check()
        names: Names = yield self._core.list()
        return names

    @twin
    def disconnect(self, name: str | Peer | Node) -> Steps[None]:
        """Ends the connection to a node."""
        yield from self._disconnect(name_of("name", name))

    def _disconnect(self, name: str) -> Steps[None]:
        self._check()
        self._apart.add(name)
        yield self._core.disconnect(name)

    @twin
    def revoke(self, name: str | Peer | Node) -> Steps[None]:
        """Ends the session of another node on this node. Its calls here stop, and it does not reconnect by itself."""
        self._check()
        other = name_of("name", name)
        self._apart.add(other)
        yield self._core.revoke(other)

    @twin
    def answer(self, event: Event, yes: bool) -> Steps[None]:
        """Answers an `asked` event. `yes` says whether the other node may connect."""
        self._check()
        if not isinstance(event, Event) or event.kind != "asked" or event.number is None:
            _check.refuse("event", "an event of the kind `asked`", event)
        yield self._core.answer(event.number, _check.flag("yes", yes))

    @twin
    def run(self, node: str | Peer | Node | None, target: Target, *args: Any, **options: Any) -> Steps[Any]:
        """Calls a function, or runs a module's main, on a connected node.

        `None` or this node's own name runs it here. Examples: `node.run("node-8399", "math.add", 34, 34)`,
        `node.run("node-8399", "math.add(34, 34)")`. Options: `timeout`, `max_memory`, `max_output`, `fuel`, `stdout`,
        `stderr`.
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
        """Returns a module of the home, to run here. Raises `gvm.ModuleNotFound` if there is none of this name."""
        self._check()
        return Module((yield self._core.module(None, _check.text("name", name), options)), self)

    @twin
    def spawn(self, module: str, /, **options: Any) -> Steps[Instance]:
        """Starts a live instance of a module here. It keeps its state between calls."""
        self._check()
        return Instance((yield self._core.spawn(None, _check.text("module", module), options)), self)

    def instances(self) -> dict[str, tuple[str, str]]:
        """Returns the live instances that this node spawned: for each name, the module and the node."""
        self._check()
        return {name: (module, node) for name, module, node in self._core.instances()}

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[Names]:
        """Uploads a module to the home: the path of a `.wasm` or `.wat` file, or the bytes. Returns its signatures."""
        self._check()
        words = _check.text("name", name), _check.text("version", version)
        signatures: Names = yield _gvm.upload(self.home, *words, read(source))
        return signatures

    def events(self) -> Events:
        """Returns the events of this node from now on."""
        self._check()
        return Events(self._core.events())

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._core.closed

    @twin
    def close(self, *, hurry: bool = False) -> Steps[None]:
        """Leaves every peer and gpmd, and ends the node. Calls from peers and on peers have some seconds to end, or
        none with `hurry=True`. Has no effect the second time."""
        _check.flag("hurry", hurry)
        if not self._core.closed:
            yield self._core.ending().shut_down(hurry)

    def _leave(self) -> None:
        self.close(hurry=True)

    def _check(self) -> None:
        if self._core.closed:
            raise Closed(f"the node `{self.name}` is closed", help="make a new `gvm.Node`")

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
        error = TypeError("a gvm.Node cannot be pickled or copied: it belongs to this process")
        error.add_note("help: pass the name of the node to the other process, and connect to it there")
        raise error

    def __repr__(self) -> str:
        state = ", closed" if self.closed else ""
        return f"<gvm.Node {self.name} ({self.id}){state}>"

    def _repr_html_(self) -> str:
        state = "closed" if self.closed else ", ".join(self.list()) or "none"
        rows = [("id", self.id), ("home", self.home), ("address", self._core.address), ("peers", state)]
        return _html.table(f"node {self.name}", ("", ""), rows)


def python() -> str:
    """Returns the Python interpreter that child processes are started with."""
    return sys.executable or "python3"


def settings(
    accept: str | Iterable[str] = "all",
    dirs: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    allow_net: Iterable[str] = (),
    grant: Iterable[str] = (),
    allow_calls: Iterable[str] = (),
    modules: str = "any",
    session_time: float | None = None,
) -> dict[str, Any]:
    """Checks what a node grants and accepts, and returns it in the form that Rust takes."""
    return {
        "accept": accept if isinstance(accept, str) else ",".join(_check.texts("accept", accept)),
        "dirs": [_dir(text) for text in _check.texts("dirs", dirs)],
        "env": _check.pairs("env", env),
        "allow_net": _check.texts("allow_net", allow_net),
        "nodes": _grants(_check.texts("grant", grant)),
        "allow_calls": _check.texts("allow_calls", allow_calls),
        "modules": _modules(modules),
        "session_time": _check.seconds("session_time", session_time),
    }


def _modules(which: str) -> str:
    """Checks which modules a node runs."""
    if which not in ("any", "own"):
        _check.refuse("modules", "'any' or 'own'", which)
    return which


def _grants(words: list[str]) -> bool:
    """Returns whether `nodes` is granted. There is nothing else to grant with this parameter."""
    for word in words:
        if word != "nodes":
            _check.refuse("grant", "'nodes'", word)
    return bool(words)


def _dir(text: str) -> tuple[str, str, bool]:
    """Splits `HOST`, `HOST::GUEST`, or `HOST::GUEST::ro` (or `::rw`) into folder, guest's name, and read-only."""
    host, *rest = text.split("::")
    if len(rest) > 2 or rest[1:] not in ([], ["ro"], ["rw"]):
        raise BadArguments(f"dirs: expected HOST, HOST::GUEST or HOST::GUEST::ro, found {text!r}")
    return host, rest[0] if rest else host, rest[1:] == ["ro"]
