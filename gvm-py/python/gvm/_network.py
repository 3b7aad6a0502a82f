"""A private network: a gpmd and nodes of its own, for notebooks and tests.

In: how many nodes. Out: nodes, a pool over them; all gone afterwards, with their folder, their sockets and
their processes. Must not know: what is run on it.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from . import _check, _gvm, _html, _life
from ._errors import CLASSES, Closed, Internal
from ._future import Future, Results
from ._loop import Steps, future_twin, twin
from ._nodes import Node, python, settings
from ._parts import Lease, Parts
from ._peers import Peer
from ._pool import Pool
from ._targets import Target, read

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    N = TypeVar("N", default=Node)
else:
    from typing import TypeVar

    N = TypeVar("N")

_READY = 60.0
"""Seconds that a child may take to answer: Python and the engine start, on a machine that may be busy."""

_CALLS = ("timeout", "max_memory", "max_output", "fuel", "stdout", "stderr")
_NODES = ("accept", "dirs", "env", "allow_net", "grant", "allow_calls", "session_time")


class LocalNetwork(Generic[N]):
    """A gpmd and `nodes` nodes of their own, that nothing outside of this process meets.

    With `processes=True` each node is a process of its own (`processes` lists them), reached through one
    more node here, `net.node`; `net.nodes` are peers then. Options (`timeout`, `max_memory`, …) go with every
    call; `accept`, `dirs`, `env`, `allow_net`, `grant`, `allow_calls` and `session_time` are each node's, as of
    `gvm.Node`.
    """

    nodes: Sequence[N]
    """Its nodes; peers where they are processes of their own."""

    @overload
    def __init__(
        self: LocalNetwork[Node], nodes: int = 4, *, processes: Literal[False] = False, **options: Any
    ) -> None: ...
    @overload
    def __init__(self: LocalNetwork[Peer], nodes: int = 4, *, processes: Literal[True], **options: Any) -> None: ...
    @overload
    def __init__(self: LocalNetwork[Node | Peer], nodes: int = 4, *, processes: bool, **options: Any) -> None: ...
    def __init__(self, nodes: int = 4, *, processes: bool = False, **options: Any) -> None:
        count = _check.count("nodes", nodes, 1)
        apart = _check.flag("processes", processes)
        _check.known(options, (*_CALLS, *_NODES), "a network")
        # Each node reads them anew.
        options = {key: [*value] if isinstance(value, Iterator) else value for key, value in options.items()}
        _gvm.check_options({key: value for key, value in options.items() if key in _CALLS})
        settings(**{key: value for key, value in options.items() if key in _NODES})
        _gvm.check_fork()
        self._options = options
        self._parts = parts = Parts()
        self.home = parts.home
        """The network's home folder."""
        self.processes = parts.processes
        """The nodes' processes, in the order of `nodes`; none where they live in this one."""
        self._lease = Lease(parts)
        self._pool: Pool | None = None
        _life.keep(parts)
        try:
            parts.gpmd = _gvm.Gpmd.start(self.home, python()).wait()
            names = ["here"] if apart else [f"node-{n}" for n in range(1, count + 1)]
            own = [self._start(name) for name in names]
            self.node = own[0]
            """A node of the network that lives in this process."""
            found: Sequence[Any] = self._start_processes(count) if apart else own
            self.nodes = found
        except BaseException:
            self.close()
            raise

    def _start(self, name: str) -> Node:
        node = Node(name, home=self.home, **self._options)
        self._parts.nodes.append(node._core.ending())
        node._lease = self._lease
        return node

    def _start_processes(self, nodes: int) -> list[Peer]:
        shared = {key: _plain(value) for key, value in self._options.items() if key in _SHARED}
        for n in range(1, nodes + 1):
            config = {"name": f"node-{n}", "home": str(self.home), "temporary": self._parts.folder, **shared}
            self.processes.append(
                subprocess.Popen(
                    [python(), "-P", "-m", "gvm._node", json.dumps(config)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env={**os.environ, "GPMD_ADDRESS": ""},
                    process_group=0,
                )
            )
        return [self.node.connect(_ready(process)["name"]) for process in self.processes]

    def _check(self) -> None:
        _gvm.check_fork()
        if self._parts.closed:
            raise Closed("the network has been closed")

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[list[str]]:
        """Uploads a module: a path of `.wasm` or `.wat`, or the bytes. Every node has it at once. Gives its
        signatures."""
        self._check()
        words = _check.text("name", name), _check.text("version", version)
        signatures: list[str] = yield _gvm.upload(self.home, *words, read(source))
        return signatures

    @property
    def pool(self) -> Pool:
        """The pool over all nodes, with the network's options; `gvm.Pool(net.nodes, …)` makes others."""
        self._check()
        parts = self._parts
        with parts.lock:
            if self._pool is None:
                nodes: Sequence[Any] = self.nodes
                self._pool = Pool(nodes)
                parts.work = weakref.ref(self._pool._work)
            return self._pool

    @future_twin
    def submit(
        self, target: Target, /, *args: Any, retry: bool | None = None, retries: int | None = None
    ) -> Future[Any]:
        """As `Pool.submit`."""
        return self.pool.submit(target, *args, retry=retry, retries=retries)

    def map(
        self,
        target: Target,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> Results:
        """As `Pool.map`."""
        return self.pool.map(
            target, *iterables, timeout=timeout, chunksize=chunksize, retry=retry, retries=retries,
            progress=progress,
        )

    def starmap(
        self,
        target: Target,
        arguments: Iterable[Iterable[Any]],
        *,
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> Results:
        """As `Pool.starmap`."""
        return self.pool.starmap(
            target, arguments, timeout=timeout, chunksize=chunksize, retry=retry, retries=retries,
            progress=progress,
        )

    def as_completed(self, futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """As `Pool.as_completed`."""
        return Pool.as_completed(futures, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Pool.shutdown`; `close()` ends the network itself."""
        if not self._parts.closed:
            self.pool.shutdown(wait, cancel_futures=cancel_futures)

    def close(self) -> None:
        """Ends everything at once: calls, nodes, processes, the daemon, the folder. Doing so again changes
        nothing."""
        self._lease.detach()
        self._parts.close()

    def __enter__(self) -> LocalNetwork[N]:
        self._check()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> LocalNetwork[N]:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        # Whoever gets here has it already; what needs no loop starts sooner without.
        import asyncio

        await asyncio.to_thread(self.close)

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.LocalNetwork cannot be pickled or copied: it belongs to this process")

    def __repr__(self) -> str:
        names = ", ".join(self._names())
        return f"<gvm.LocalNetwork of {names}{', closed' if self._parts.closed else ''}>"

    def _names(self) -> list[str]:
        nodes: Sequence[Any] = self.nodes
        return [node.name for node in nodes]

    def _repr_html_(self) -> str:
        pids = [str(process.pid) for process in self.processes] or ["this process"] * len(self.nodes)
        rows = zip(self._names(), pids)
        state = ", closed" if self._parts.closed else ""
        return _html.table(f"local network{state}", ("node", "process"), rows)


_SHARED = ("max_memory", "max_output", *_NODES)
"""The options that the nodes of other processes are started with; the others go with each call."""


def _plain(value: Any) -> Any:
    """An option, checked before, as JSON has it."""
    if isinstance(value, (str, float)) or value is None:
        return value
    if hasattr(value, "items"):
        return dict(value.items())
    return int(value) if hasattr(value, "__index__") else [*value]


def _ready(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a child says once it answers."""
    if process.stdout is None:
        raise Internal("a node's process has no standard output")
    watchdog = threading.Timer(_READY, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    process.stdout.close()
    if not line:
        raise Internal(f"a node's process ended before it answered: status {process.wait()}")
    said: dict[str, Any] = json.loads(line)
    if "code" in said:
        raise CLASSES[said["code"]](said["message"])
    return said
