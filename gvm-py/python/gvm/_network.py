"""A private network with its own gpmd and nodes, for notebooks and tests.

In: the number of nodes and their options. Out: nodes, and a pool over them. When the network closes, their folder,
sockets and processes are gone. Must not know: what runs on it.
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
"""Seconds that a child process has to answer. It starts Python and the engine, and the machine may be busy."""

_CALLS = ("timeout", "max_memory", "max_output", "fuel", "stdout", "stderr")
_NODES = ("accept", "dirs", "env", "allow_net", "grant", "allow_calls", "modules", "session_time")


class LocalNetwork(Generic[N]):
    """A private network: its own gpmd and `nodes` nodes, in a home that no other process uses.

    With `processes=True` each node runs in its own process (`processes` lists them). `net.nodes` are then peers, and
    one more node, `net.node`, runs in this process. The options `timeout`, `max_memory`, `max_output`, `fuel`,
    `stdout` and `stderr` apply to every call. The options `accept`, `dirs`, `env`, `allow_net`, `grant`,
    `allow_calls`, `modules` and `session_time` apply to each node, as in `gvm.Node`.
    """

    nodes: Sequence[N]
    """The nodes of the network. They are peers if they run in their own processes."""

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
        # Each node reads the options again, so an iterator must become a list.
        options = {key: [*value] if isinstance(value, Iterator) else value for key, value in options.items()}
        _gvm.check_options({key: value for key, value in options.items() if key in _CALLS})
        settings(**{key: value for key, value in options.items() if key in _NODES})
        _gvm.check_fork()
        self._options = options
        self._parts = parts = Parts()
        self.home = parts.home
        """The network's home folder."""
        self.processes = parts.processes
        """The processes of the nodes, in the order of `nodes`. Empty if the nodes run in this process."""
        self._lease = Lease(parts)
        self._pool: Pool | None = None
        _life.keep(parts)
        try:
            parts.gpmd = _gvm.Gpmd.start(self.home, python()).wait()
            names = ["here"] if apart else [f"node-{n}" for n in range(1, count + 1)]
            own = [self._start(name) for name in names]
            self.node = own[0]
            """A node of the network that runs in this process."""
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
            raise Closed("the network is closed", help="make a new `gvm.LocalNetwork`")

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[list[str]]:
        """Uploads a module: the path of a `.wasm` or `.wat` file, or the bytes. Every node can use it at once.
        Returns the signatures of its functions."""
        self._check()
        words = _check.text("name", name), _check.text("version", version)
        signatures: list[str] = yield _gvm.upload(self.home, *words, read(source))
        return signatures

    @property
    def pool(self) -> Pool:
        """The pool over all nodes, with the network's options. `gvm.Pool(net.nodes, …)` makes other pools."""
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
        """Submits to the network's pool; see `Pool.submit`."""
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
        """Maps over the network's pool; see `Pool.map`."""
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
        """Maps over the network's pool; see `Pool.starmap`."""
        return self.pool.starmap(
            target, arguments, timeout=timeout, chunksize=chunksize, retry=retry, retries=retries,
            progress=progress,
        )

    def as_completed(self, futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """Yields the futures as they end; see `Pool.as_completed`."""
        return Pool.as_completed(futures, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts down the network's pool; see `Pool.shutdown`. `close()` ends the network itself."""
        if not self._parts.closed:
            self.pool.shutdown(wait, cancel_futures=cancel_futures)

    def close(self) -> None:
        """Stops all calls, nodes, processes and the daemon at once, and removes the folder. Has no effect the second
        time."""
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
        # A caller in a loop has imported it already. Programs without a loop start faster without it.
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
"""The options that nodes in their own processes start with. The other options are sent with each call."""


def _plain(value: Any) -> Any:
    """Returns an option, which was checked before, in a form that JSON has."""
    if isinstance(value, (str, float)) or value is None:
        return value
    if hasattr(value, "items"):
        return dict(value.items())
    return int(value) if hasattr(value, "__index__") else [*value]


def _ready(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """Waits for the first line of a child process, and returns it.

    Raises the error that the child reports, or `gvm.Internal` if it ends without a line.
    """
    if process.stdout is None:
        raise Internal("the process of a node has no standard output")
    watchdog = threading.Timer(_READY, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
    process.stdout.close()
    if not line:
        raise Internal(
            f"the process of a node ended with status {process.wait()} before it answered",
            help="read what the process wrote to standard error",
        )
    said: dict[str, Any] = json.loads(line)
    if "code" in said:
        raise CLASSES[said["code"]](said["message"], context=said["context"], help=said["help"])
    return said
