"""Calls spread over nodes, with the habits of `concurrent.futures`.

In: targets and arguments. Out: futures, each of which ends exactly once. A task goes to the least busy
node; a node that dies gives what had not started to the others, and what may have run only where the caller
allowed that; a node that comes back gets tasks again. Must not know: how nodes are reached.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from . import _check, _gvm, _html, _life
from ._errors import BadArguments, Cancelled, Closed, ConnectionDenied, Error, NodeDown, NodeNotConnected
from ._future import Future, Results, Task
from ._gvm import Canceller, Completions
from ._loop import future_twin
from ._nodes import Node
from ._peers import Peer
from ._places import Place, places
from ._targets import Target, check_target

_SOON, _LATER = 0.02, 1.0
"""Seconds between two looks at a node that was lost: at first, and at the most."""


class Pool(concurrent.futures.Executor):
    """An executor over any set of nodes and peers.

    `in_flight` is how many calls each node has at once (twice the processors unless said otherwise); more
    wait here. `retry` says that a task whose node died while it ran may run again elsewhere; `retries` says how
    often at the most. `timeout`, `max_memory`, `max_output`, `fuel`, `stdout` and `stderr` go with every call.
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
        self._in_flight = most if in_flight is None else _check.count("in_flight", in_flight, 1)
        self._places = places(nodes)
        self._options = options
        # A finalizer may cancel a future wherever it runs, under this lock too.
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._numbers = itertools.count()
        self._waiting: deque[deque[Task]] = deque()
        self._running: dict[int, Task] = {}
        self._failed: list[tuple[Task, BaseException]] = []
        self._placing = False
        self._changed = False
        self._closed = False
        self._completions = completions = Completions(False)
        self._cancellers: dict[int, Canceller] = {}
        self._thread = threading.Thread(target=_serve, args=(completions,), name="gvm-pool", daemon=True)
        self._thread.start()
        # A pool that nobody has any more takes its thread with it, and what runs.
        self._finalizer = weakref.finalize(self, _abandon, completions, self._cancellers)
        self._finalizer.atexit = False
        _life.keep(self)

    # Submitting.

    @future_twin
    def submit(
        self, target: Target, /, *args: Any, retry: bool | None = None, retries: int | None = None
    ) -> Future[Any]:
        """Calls `module.function` with these arguments on the least busy node, or `module.function(args)`, or runs
        the main of `module`. `await pool.submit.aio(…)` gives the result."""
        self._check()
        task = self._task(target, args, self._tries_of(retry, retries))
        self._put([deque([task])])
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
        """The results of `target` for every element, in the elements' order, as `Executor.map` gives them.

        `chunksize` elements go to one node together. `progress` shows a bar (tqdm). What is not needed any
        more, because the iterator was dropped or closed, was interrupted or ran out of time, is cancelled.
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
        """As `map`, for functions of several parameters: each element holds the arguments of one call."""
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
            self._put([deque(tasks[at : at + size]) for at in range(0, len(tasks), size)])
        except BaseException:
            results.close()
            raise
        return results

    @staticmethod
    def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """The futures as they end, whichever is first."""
        most = _check.seconds("timeout", timeout)
        return concurrent.futures.as_completed(futures, most)  # type: ignore[arg-type, return-value]

    def _task(self, target: Target, args: tuple[Any, ...], tries: int | None) -> Task:
        return Task(self, next(self._numbers), target, check_target(target, args), args, tries)

    def _tries_of(self, retry: bool | None, retries: int | None) -> int | None:
        return _tries(retry, retries, self._tries)

    def _check(self) -> None:
        _gvm.check_fork()
        if self._closed:
            raise Closed("the pool has been shut down")

    def _put(self, chunks: list[deque[Task]]) -> None:
        with self._lock:
            self._check()
            self._waiting.extend(chunks)
        self._go_on()

    # Placing.

    def _go_on(self) -> None:
        """Begins what can begin, then tells futures what failed: outside of the lock, for a future calls
        whatever was hung on it."""
        try:
            with self._lock:
                self._dispatch()
        finally:
            with self._lock:
                failed, self._failed = self._failed, []
                ends = [(task, error) for task, error in failed if _settle(task)]
                if not self._running and not self._waiting:
                    self._idle.notify_all()
                    if self._closed:
                        self._finish()
            for task, error in ends:
                task.end(None, error)

    # The next ones run under the lock.

    def _dispatch(self) -> None:
        # Whatever this calls may run a finalizer, which may free a place: that is seen below.
        self._changed = True
        if self._placing:
            return
        self._placing = True
        try:
            while self._changed:
                self._changed = False
                self._place_all()
        finally:
            self._placing = False

    def _place_all(self) -> None:
        while self._waiting:
            chunk = self._waiting[0]
            if not chunk:
                self._waiting.popleft()
            elif chunk[0].settled:
                chunk.popleft()
            else:
                place = min(self._alive(), key=lambda place: place.busy, default=None)
                if place is None:
                    self._give_up()
                elif place.busy >= self._in_flight:
                    return
                else:
                    self._begin_all(self._waiting.popleft(), place)

    def _alive(self) -> list[Place]:
        alive = [place for place in self._places if place.alive]
        # Where none is left, one may have come back a moment ago.
        return alive or [place for place in self._places if place.look()]

    def _begin_all(self, chunk: deque[Task], place: Place) -> None:
        try:
            while chunk:
                task = chunk.popleft()
                if not task.settled:
                    self._begin(task, place)
        finally:
            if chunk:
                self._waiting.appendleft(chunk)

    def _begin(self, task: Task, place: Place) -> None:
        number = task.number
        task.begun, task.place = True, place
        self._running[number] = task
        place.busy += 1
        try:
            op = place.prepare(task, self._options)
            ended = functools.partial(_ended, weakref.ref(self), number)
            self._cancellers[number] = task.context.copy().run(op.begin, self._completions, ended)
        except Exception as error:
            self._release(task)
            self._fail(task, place, error)
        except BaseException as error:
            # Ctrl-C ends this task, and goes on to whoever was submitting.
            self._release(task)
            self._failed.append((task, error))
            raise
        if number not in self._running and (canceller := self._cancellers.pop(number, None)):
            # It was cancelled meanwhile.
            canceller.cancel()

    def _release(self, task: Task) -> bool:
        """Frees a task's place, and stops what runs there. False where it has none."""
        if self._running.pop(task.number, None) is None:
            return False
        task.place.busy -= 1
        if canceller := self._cancellers.pop(task.number, None):
            canceller.cancel()
        return True

    def _fail(self, task: Task, place: Place, error: BaseException) -> None:
        """Ends a task, unless its node is gone and it may go elsewhere."""
        if isinstance(error, (NodeDown, NodeNotConnected)):
            if place.alive:
                place.alive = False
                self._watch(place, _SOON)
            if error.outcome == "not-started" or error.outcome == "unknown" and task.again():
                self._waiting.appendleft(deque([task]))
                return
        self._failed.append((task, error))

    def _give_up(self) -> None:
        for task in itertools.chain.from_iterable(self._waiting):
            self._failed.append((task, NodeDown("no node of the pool is left to run this")))
        self._waiting.clear()

    # Nodes that come back.

    def _watch(self, place: Place, pause: float) -> None:
        try:
            op = place.reach(pause)
        except Error:
            # Its node is being closed.
            return
        if op is not None:
            index = self._places.index(place)
            ended = functools.partial(_looked, weakref.ref(self), index, pause)
            self._cancellers[-1 - index] = op.begin(self._completions, ended)

    def _looked(self, index: int, pause: float, reached: bool | None, error: BaseException | None) -> None:
        place = self._places[index]
        with self._lock:
            self._cancellers.pop(-1 - index, None)
            if isinstance(error, ConnectionDenied):
                place.denied = True
            if reached:
                place.alive, place.denied = True, False
            elif not self._closed:
                self._watch(place, min(2 * pause, _LATER))
        self._go_on()

    # Ending of tasks.

    def _ended(self, number: int, result: Any, error: BaseException | None) -> None:
        """What became of a task: called by the pool's thread."""
        with self._lock:
            task = self._running.get(number)
            if task is None:
                # It was cancelled.
                return
            place: Place = task.place
            self._release(task)
            ends = False
            if error is None:
                place.done += 1
                ends = _settle(task)
            else:
                self._fail(task, place, error)
        self._go_on()
        if ends:
            task.end(result, None)

    def _cancelled(self, task: Task) -> None:
        with self._lock:
            ends = _settle(task)
            freed = self._release(task)
        if ends:
            # This tells whoever waits that it is cancelled.
            task.end(None, None)
        if ends or freed:
            self._go_on()

    # Ending.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; those it has go on, unless `cancel_futures` cancels them, those that run too."""
        _check.flag("wait", wait)
        cancels = _check.flag("cancel_futures", cancel_futures)
        with self._lock:
            self._closed = True
            tasks = [*itertools.chain.from_iterable(self._waiting), *self._running.values()] if cancels else []
        for task in tasks:
            task.future.cancel()
        self._go_on()
        if wait:
            with self._lock:
                self._idle.wait_for(lambda: not self._running and not self._waiting)
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _finish(self) -> None:
        """Lets the thread go. Under the lock."""
        self._finalizer.detach()
        _abandon(self._completions, self._cancellers)

    def close(self) -> None:
        """Ends at once: cancels what has not begun, and what runs, which ends with `gvm.Cancelled`."""
        with self._lock:
            self._closed = True
            waiting = [task for task in itertools.chain.from_iterable(self._waiting) if _settle(task)]
            running = [task for task in self._running.values() if _settle(task)]
            self._waiting.clear()
            for task in [*self._running.values()]:
                self._release(task)
        for task in [*waiting, *running]:
            if not task.begun:
                task.future.cancel()
            why = "the pool was closed while the call ran"
            task.end(None, Cancelled(why, outcome="ran-and-failed"))
        self.shutdown()

    _leave = close

    def __enter__(self) -> Pool:
        self._check()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            # Interrupted: nobody waits for what runs.
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
        # Whoever gets here has it already; what needs no loop starts sooner without.
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
        return [place.name for place in self._places if place.alive]

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.Pool cannot be pickled or copied: it belongs to this process")

    def __repr__(self) -> str:
        nodes = ", ".join(self.nodes) or "no nodes"
        state = ", closed" if self._closed else ""
        return f"<gvm.Pool of {nodes}: {len(self._running)} running, {self._queued()} waiting{state}>"

    def _queued(self) -> int:
        with self._lock:
            return sum(not task.settled for task in itertools.chain.from_iterable(self._waiting))

    def _repr_html_(self) -> str:
        rows = [(p.name, p.busy, p.done, "alive" if p.alive else "gone") for p in self._places]
        return _html.table(f"pool, {self._queued()} waiting", ("node", "running", "done", "state"), rows)


def _serve(completions: Completions) -> None:
    while completions.wait():
        completions.drain()


def _abandon(completions: Completions, cancellers: dict[int, Canceller]) -> None:
    """Stops what runs for a pool, and the pool's thread."""
    for canceller in [*cancellers.values()]:
        canceller.cancel()
    cancellers.clear()
    completions.close()


def _ended(pool: weakref.ref[Pool], number: int, result: Any, error: BaseException | None) -> None:
    if known := pool():
        known._ended(number, result, error)


def _looked(pool: weakref.ref[Pool], index: int, pause: float, reached: Any, error: BaseException | None) -> None:
    if known := pool():
        known._looked(index, pause, reached, error)


def _settle(task: Task) -> bool:
    """Takes it upon the caller to end a task's future; False where somebody has. Under the pool's lock."""
    settled, task.settled = task.settled, True
    return not settled


def _tries(retry: bool | None, retries: int | None, default: int | None) -> int | None:
    """How often a task may run again where it may have run already; None for always."""
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
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'gvm[progress]'") from error
    return tqdm(total=total, desc=title)
