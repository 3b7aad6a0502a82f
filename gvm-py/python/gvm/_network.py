"""A private network: a gpmd and nodes of its own, for notebooks and tests.

In: how many nodes. Out: nodes, a pool over them; all gone afterwards, with their folder, their sockets and
their processes. Must not know: what is run on it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import _gvm, _html, _life
from ._errors import CLASSES, Internal
from ._loop import Steps, twin
from ._nodes import Node, Peer, Target, python, read
from ._pool import Future, Pool

_READY = 60.0
"""Seconds that a child may take to answer: Python and the engine start, on a machine that may be busy."""

_LEAVE = 5.0
"""Seconds that a child may take to leave in order."""


class _Parts:
    """What a network consists of, and how it ends; kept apart, so that it can end after the network."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = False
        self.folder = tempfile.mkdtemp(prefix="gvm-")
        self.home = Path(self.folder, "home")
        self.owner = os.getpid()
        self.gpmd: _gvm.Gpmd | None = None
        self.nodes: list[Node] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pool: Pool | None = None

    def close_aside(self) -> None:
        """Closes where waiting harms nobody: finalizers run anywhere."""
        if os.getpid() == self.owner and not self.closed:
            threading.Thread(target=self.close, name="gvm-close").start()

    def close(self) -> None:
        with self.lock:
            if self.closed or os.getpid() != self.owner:
                return
            self.closed = True
        if self.pool is not None:
            self.pool.close()
        for process in self.processes:
            _farewell(process)
        for node in self.nodes:
            node.close(hurry=True)
        for process in self.processes:
            _end(process)
        if self.gpmd is not None:
            self.gpmd.stop().wait()
        _remove(self.folder)

    _leave = close


class LocalNetwork:
    """A gpmd and `nodes` nodes of their own, that nothing outside of this process meets.

    With `processes=True` each node is a process of its own (`processes` lists them), reached through one
    more node here, `net.node`; `net.nodes` are peers then. Options (`timeout`, `max_memory`, …) go with every
    call.
    """

    def __init__(self, nodes: int = 4, *, processes: bool = False, **options: Any) -> None:
        if nodes < 1:
            raise ValueError("a network needs at least one node")
        _gvm.check_fork()
        self._options = options
        self._parts = parts = _Parts()
        self.home = parts.home
        """The network's home folder."""
        self.processes = parts.processes
        """The nodes' processes, in the order of `nodes`; none where they live in this one."""
        # Whoever has a node of it has the network: it ends when nobody has either any more.
        self._finalizer = weakref.finalize(self, parts.close_aside)
        self._finalizer.atexit = False
        _life.keep(parts)
        try:
            parts.gpmd = _gvm.Gpmd.start(self.home, python()).wait()
            names = ["here"] if processes else [f"node-{n}" for n in range(1, nodes + 1)]
            for name in names:
                parts.nodes.append(Node(name, home=self.home, **options))
            self.node = parts.nodes[0]
            """A node of the network that lives in this process."""
            self.nodes: Sequence[Node | Peer] = self._start_processes(nodes) if processes else [*parts.nodes]
            """Its nodes; peers where they are processes of their own."""
        except BaseException:
            self.close()
            raise
        for node in parts.nodes:
            node._network = self

    def _start_processes(self, nodes: int) -> list[Peer]:
        limits = {key: value for key, value in self._options.items() if key in ("max_memory", "max_output")}
        for n in range(1, nodes + 1):
            config = {"name": f"node-{n}", "home": str(self.home), "temporary": self._parts.folder, **limits}
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

    @twin
    def upload(self, name: str, version: str, source: str | os.PathLike[str] | bytes) -> Steps[list[str]]:
        """Uploads a module: a path of `.wasm` or `.wat`, or the bytes. Every node has it at once. Gives its
        signatures."""
        signatures: list[str] = yield _gvm.upload(self.home, name, version, read(source))
        return signatures

    @property
    def pool(self) -> Pool:
        """The pool over all nodes, with the network's options; `gvm.Pool(net.nodes, …)` makes others."""
        parts = self._parts
        with parts.lock:
            if parts.pool is None:
                parts.pool = Pool(self.nodes)
            return parts.pool

    def submit(self, target: Target, /, *args: Any, retry: bool | None = None) -> Future[Any]:
        """As `Pool.submit`."""
        return self.pool.submit(target, *args, retry=retry)

    def map(
        self,
        target: Target,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """As `Pool.map`."""
        return self.pool.map(
            target, *iterables, timeout=timeout, chunksize=chunksize, retry=retry, progress=progress
        )

    def starmap(
        self,
        target: Target,
        arguments: Iterable[Iterable[Any]],
        *,
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """As `Pool.starmap`."""
        return self.pool.starmap(
            target, arguments, timeout=timeout, chunksize=chunksize, retry=retry, progress=progress
        )

    def as_completed(self, futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """As `Pool.as_completed`."""
        return Pool.as_completed(futures, timeout)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As `Pool.shutdown`; `close()` ends the network itself."""
        self.pool.shutdown(wait, cancel_futures=cancel_futures)

    def close(self) -> None:
        """Ends everything at once: calls, nodes, processes, the daemon, the folder. Doing so again changes
        nothing."""
        self._finalizer.detach()
        self._parts.close()

    def __enter__(self) -> LocalNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = ", ".join(self._names())
        return f"<gvm.LocalNetwork of {names}{', closed' if self._parts.closed else ''}>"

    def _names(self) -> list[str]:
        return [node.name for node in self.nodes]

    def _repr_html_(self) -> str:
        pids = [str(process.pid) for process in self.processes] or ["this process"] * len(self.nodes)
        rows = zip(self._names(), pids)
        state = ", closed" if self._parts.closed else ""
        return _html.table(f"local network{state}", ("node", "process"), rows)


def _remove(folder: str) -> None:
    """Removes the folder. A compilation that nobody waits for any more may put its last file there meanwhile."""
    end = time.monotonic() + _LEAVE
    while os.path.exists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _ready(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    """What a child says once it answers."""
    assert process.stdout is not None
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


def _farewell(process: subprocess.Popen[bytes]) -> None:
    """Asks a child to leave in order."""
    assert process.stdin is not None
    try:
        process.stdin.write(b"bye")
        process.stdin.close()
    except OSError:
        # It is gone already.
        pass


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_LEAVE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
