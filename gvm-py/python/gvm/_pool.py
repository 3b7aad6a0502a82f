"""Calls spread over nodes, with the interface of `concurrent.futures`.

In: nodes; targets and arguments. Out: futures, results in order. Arguments are checked before any task is made. Must
not know: which node runs a task, and how it ends.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from . import _check, _gvm, _html
from ._errors import BadArguments
from ._future import Future, Results, Task
from ._loop import future_twin
from ._nodes import Node
from ._peers import Peer
from ._places import places
from ._targets import Target, check_target
from ._work import Work


class Pool(concurrent.futures.Executor):
    """An executor over any set of nodes and peers.

    `in_flight` is how many calls each node runs at once, by default twice the number of processors and at least 4;
    further calls wait here. With `retry=True`, a task whose node is lost while it runs may run again on another node;
    `retries` limits how often. The options `timeout`, `max_memory`, `max_output`, `fuel`, `stdout` and `stderr` apply
    to every call.
    """

    def __init__(
        self,
        nodes: Iterable[Node | Peer],
        *,
        retry: bool | None = None,
        retries: int | None = None,
        in_flight: int | None = None,
        **options: Any,
    ) -> None:
        _gvm.check_fork()
        _gvm.check_options(options)
        self._tries = _tries(retry, retries, 0)
        most = max(4, 2 * (os.cpu_count() or 1))
        count = most if in_flight is None else _check.count("in_flight", in_flight, 1)
        self._work = Work(places(nodes), count, options)
        self._numbers = itertools.count()

    # Submitting.

    @future_twin
    def submit(  # type: ignore[override]
        self, target: Target, /, *args: Any, retry: bool | None = None, retries: int | None = None
    ) -> Future[Any]:
        """Starts a call on the least busy node, and returns its future.

        `target` is `module.function`, with the arguments after it; `module.function(args)`; or `module`, which runs
        its main. `await pool.submit.aio(…)` returns the result.
        """
        self._check()
        task = self._task(target, args, self._tries_of(retry, retries))
        self._work.put([deque([task])])
        return task.future

    def map(  # type: ignore[override]
        self,
        target: Target,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        retries: int | None = None,
        progress: bool = False,
    ) -> Results:
        """Calls `target` for every element, and returns the results in the order of the elements, like `Executor.map`.

        `chunksize` elements go to one node together. `progress=True` shows a progress bar (tqdm). `timeout` limits
        the time for all results, in seconds. The remaining calls are cancelled when the iterator is dropped or
        closed, when it is interrupted, when an element fails, and when the time is over.
        """
        if not iterables:
            raise BadArguments("map: expected at least one iterable of arguments")
        arguments = zip(*(_iterable("iterables", each) for each in iterables))
        return self._map(target, arguments, timeout, chunksize, (retry, retries), progress)

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
        """Like `map`, but each element holds all the arguments of one call."""
        found = _iterable("arguments", arguments)
        return self._map(target, found, timeout, chunksize, (retry, retries), progress)

    def _map(
        self,
        target: Target,
        arguments: Iterable[Iterable[Any]],
        timeout: float | None,
        chunksize: int,
        again: tuple[bool | None, int | None],
        progress: bool,
    ) -> Results:
        self._check()
        most = _check.seconds("timeout", timeout)
        size = _check.count("chunksize", chunksize, 1)
        tries = self._tries_of(*again)
        shows = _check.flag("progress", progress)
        check_target(target, ())
        tasks = [self._task(target, _arguments(place, args), tries) for place, args in enumerate(arguments)]
        results = Results(tasks, most, _bar(shows, len(tasks), target))
        try:
            self._work.put([deque(tasks[at : at + size]) for at in range(0, len(tasks), size)])
        except BaseException:
            results.close()
            raise
        return results

    @staticmethod
    def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """Yields the futures in the order in which they end."""
        most = _check.seconds("timeout", timeout)
        return concurrent.futures.as_completed(futures, most)  # type: ignore[return-value]

    def _task(self, target: Target, args: tuple[Any, ...], tries: int | None) -> Task:
        return Task(self._work, next(self._numbers), target, check_target(target, args), args, tries)

    def _tries_of(self, retry: bool | None, retries: int | None) -> int | None:
        return _tries(retry, retries, self._tries)

    def _check(self) -> None:
        _gvm.check_fork()
        self._work.check()

    # Ending.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Accepts no more tasks. Tasks that it has continue, unless `cancel_futures` cancels them, running ones too."""
        self._work.shutdown(_check.flag("wait", wait), _check.flag("cancel_futures", cancel_futures))

    def close(self) -> None:
        """Ends at once. Cancels waiting calls, and stops running calls, whose futures raise `gvm.Cancelled`."""
        self._work.close()

    def __enter__(self) -> Pool:
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            # Interrupted: the caller does not wait for running calls.
            self.close()
            return
        try:
            self.shutdown()
        except BaseException:
            self.close()
            raise

    async def __aenter__(self) -> Pool:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # A caller in a loop has imported it already. Programs without a loop start faster without it.
        import asyncio

        try:
            await asyncio.to_thread(self.__exit__, kind, *rest)
        except BaseException:
            self.close()
            raise

    # Showing.

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that can be reached."""
        return [place.name for place in self._work.places if place.alive]

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.Pool cannot be pickled or copied: it belongs to this process")

    def __repr__(self) -> str:
        nodes = ", ".join(self.nodes) or "no nodes"
        state = ", closed" if self._work.closed else ""
        return f"<gvm.Pool of {nodes}: {len(self._work.running)} running, {self._work.waiting()} waiting{state}>"

    def _repr_html_(self) -> str:
        rows = [(p.name, p.busy, p.done, "alive" if p.alive else "gone") for p in self._work.places]
        return _html.table(f"pool, {self._work.waiting()} waiting", ("node", "running", "done", "state"), rows)


def _tries(retry: bool | None, retries: int | None, default: int | None) -> int | None:
    """Returns how often a task may run again after it may already have run. None means always."""
    if retry is not None and retries is not None:
        raise BadArguments("retries: expected either retry or retries, found both")
    if retries is not None:
        return _check.count("retries", retries)
    if retry is None:
        return default
    return None if _check.flag("retry", retry) else 0


def _iterable(name: str, value: Any) -> Iterable[Any]:
    if not isinstance(value, Iterable):
        _check.refuse(name, "an iterable", value)
    return value


def _arguments(place: int, args: Any) -> tuple[Any, ...]:
    if isinstance(args, (str, bytes)) or not isinstance(args, Iterable):
        _check.refuse(f"arguments[{place}]", "the arguments of one call, as a tuple", args)
    return tuple(args)


def _bar(progress: bool, total: int, title: str) -> Any:
    if not progress:
        return None
    try:
        with warnings.catch_warnings():
            # In a notebook without ipywidgets, tqdm warns and shows a bar of text.
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm
    except ImportError as error:
        missing = ImportError("progress=True needs the package `tqdm`", name="tqdm")
        missing.add_note("help: run `pip install 'gvm[progress]'`")
        raise missing from error
    return tqdm(total=total, desc=title)
