"""Calls spread over nodes, with the habits of `concurrent.futures`.

In: targets and arguments. Out: futures, each of which ends exactly once. A task goes to the least busy
node; a node that dies gives what had not started to the others, and what may have run only where the caller
said `retry`. Must not know: how nodes are reached.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from . import _html, _life
from ._errors import Cancelled, NodeDown, NodeNotConnected
from ._gvm import Canceller, Completions, Function
from ._loop import wait
from ._nodes import Node, Peer, Target

Future = concurrent.futures.Future


class _Place:
    """One node, as the pool sees it."""

    def __init__(self, node: Node | Peer) -> None:
        self.node = node.node if isinstance(node, Peer) else node
        self.place = node.name if isinstance(node, Peer) else None
        self.name = node.name
        self.busy = 0
        self.done = 0
        self.alive = True
        self.functions: dict[Target, Function] = {}

    def function(self, target: Target, options: dict[str, Any]) -> Function:
        found = self.functions.get(target)
        if found is None:
            known = wait(self.node._function(self.place, target))
            found = self.functions[target] = known.options(**options)
        return found


class _Task:
    """One call, from its submission to its one end."""

    __slots__ = ("future", "target", "args", "retry", "begun", "context")

    def __init__(self, target: Target, args: tuple[Any, ...], retry: bool) -> None:
        self.future: Future[Any] = Future()
        self.target = target
        self.args = args
        self.retry = retry
        self.begun = False
        # By it a notebook finds the cell that this task's output belongs to.
        self.context = contextvars.copy_context()


class Pool(concurrent.futures.Executor):
    """An executor over any set of nodes and peers.

    `in_flight` is how many calls each node has at once (twice the processors unless said otherwise); more
    wait here. `retry` says that a task whose node died while it ran may run again elsewhere. `timeout`,
    `max_memory`, `max_output`, `fuel`, `stdout` and `stderr` go with every call.
    """

    def __init__(
        self,
        nodes: Iterable[Node | Peer],
        *,
        retry: bool = False,
        in_flight: int | None = None,
        **options: Any,
    ) -> None:
        self._places = [_Place(node) for node in nodes]
        if not self._places:
            raise ValueError("a pool needs at least one node")
        self._in_flight = in_flight or max(4, 2 * (os.cpu_count() or 1))
        if self._in_flight < 1:
            raise ValueError("in_flight must be at least 1")
        self._retry = retry
        self._options = options
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[list[_Task]] = deque()
        self._running: dict[_Task, Canceller] = {}
        self._failed: list[tuple[_Task, BaseException]] = []
        self._closed = False
        self._completions = completions = Completions(False)
        self._thread = threading.Thread(target=_serve, args=(completions,), name="gvm-pool", daemon=True)
        self._thread.start()
        # A pool that nobody has any more takes its thread with it.
        self._finalizer = weakref.finalize(self, completions.close)
        self._finalizer.atexit = False
        _life.keep(self)

    # Submitting.

    def submit(self, target: Target, /, *args: Any, retry: bool | None = None) -> Future[Any]:  # type: ignore[override]
        """Calls `module.function` with these arguments on the least busy node."""
        task = self._task(target, args, retry)
        self._put([[task]])
        return task.future

    def map(  # type: ignore[override]
        self,
        target: Target,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        retry: bool | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """The results of `target` for every element, in the elements' order, as `Executor.map` gives them.

        `chunksize` elements go to one node together. `progress` shows a bar (tqdm). What is not needed any
        more, because the iterator was dropped or ran out of time, is cancelled.
        """
        return self._map(target, zip(*iterables), timeout, chunksize, retry, progress)

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
        """As `map`, for functions of several parameters: each element holds the arguments of one call."""
        return self._map(target, arguments, timeout, chunksize, retry, progress)

    def _map(
        self,
        target: Target,
        arguments: Iterable[Iterable[Any]],
        timeout: float | None,
        chunksize: int,
        retry: bool | None,
        progress: bool,
    ) -> Iterator[Any]:
        if chunksize < 1:
            raise ValueError("chunksize must be at least 1")
        end = None if timeout is None else time.monotonic() + timeout
        tasks = [self._task(target, tuple(args), retry) for args in arguments]
        bar = _bar(progress, len(tasks), target)
        self._put([tasks[at : at + chunksize] for at in range(0, len(tasks), chunksize)])
        return _results(deque(task.future for task in tasks), end, bar)

    @staticmethod
    def as_completed(futures: Iterable[Future[Any]], timeout: float | None = None) -> Iterator[Future[Any]]:
        """The futures as they end, whichever is first."""
        return concurrent.futures.as_completed(futures, timeout)

    def _task(self, target: Target, args: tuple[Any, ...], retry: bool | None) -> _Task:
        if not isinstance(target, str):
            raise TypeError(f"a pool calls functions by name, such as 'math.add', not {target!r}")
        return _Task(target, args, self._retry if retry is None else retry)

    def _put(self, chunks: list[list[_Task]]) -> None:
        with self._lock:
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
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
                if not self._running and not self._waiting:
                    self._idle.notify_all()
            for task, error in failed:
                task.future.set_exception(error)

    # The next four run under the lock.

    def _dispatch(self) -> None:
        while self._waiting:
            alive = [place for place in self._places if place.alive]
            if not alive:
                self._give_up()
                return
            place = min(alive, key=lambda place: place.busy)
            if place.busy >= self._in_flight:
                return
            chunk = deque(self._waiting.popleft())
            try:
                while chunk:
                    self._begin(chunk.popleft(), place)
            finally:
                if chunk:
                    self._waiting.appendleft([*chunk])

    def _begin(self, task: _Task, place: _Place) -> None:
        if not task.begun and not task.future.set_running_or_notify_cancel():
            return
        task.begun = True
        try:
            op = place.function(task.target, self._options).prepare(task.args)
            ended = functools.partial(self._ended, task, place)
            self._running[task] = task.context.copy().run(op.begin, self._completions, ended)
            place.busy += 1
        except Exception as error:
            self._fail(task, place, error)
        except BaseException as error:
            # Ctrl-C ends this task, and goes on to whoever was submitting.
            self._failed.append((task, error))
            raise

    def _fail(self, task: _Task, place: _Place, error: BaseException) -> None:
        """Ends a task, unless its node is gone and it may go elsewhere."""
        if isinstance(error, (NodeDown, NodeNotConnected)):
            place.alive = False
            if error.outcome == "not-started" or error.outcome == "unknown" and task.retry:
                self._waiting.appendleft([task])
                return
        self._failed.append((task, error))

    def _give_up(self) -> None:
        tasks = list(itertools.chain.from_iterable(self._waiting))
        self._waiting.clear()
        for task in tasks:
            if task.begun or task.future.set_running_or_notify_cancel():
                self._failed.append((task, NodeDown("no node of the pool is left to run this")))

    def _ended(self, task: _Task, place: _Place, result: Any, error: BaseException | None) -> None:
        """What became of a task: called by the pool's thread."""
        with self._lock:
            if self._running.pop(task, None) is None:
                # It was taken back, and has ended so.
                return
            place.busy -= 1
            if error is None:
                place.done += 1
            else:
                self._fail(task, place, error)
        self._go_on()
        if error is None:
            task.future.set_result(result)

    # Ending.

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more tasks; those it has go on, unless `cancel_futures` takes back what has not begun."""
        with self._lock:
            self._closed = True
            taken: list[_Task] = []
            if cancel_futures:
                chunks, self._waiting = self._waiting, deque()
                for task in itertools.chain.from_iterable(chunks):
                    # What lost its node while it ran has begun, and goes on elsewhere.
                    if task.begun:
                        self._waiting.append([task])
                    else:
                        taken.append(task)
        for task in taken:
            task.future.cancel()
        self._go_on()
        if wait:
            with self._lock:
                self._idle.wait_for(lambda: not self._running and not self._waiting)
            self._finalizer.detach()
            self._completions.close()
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def close(self) -> None:
        """Ends at once: cancels what has not begun and takes back what runs, which ends with `gvm.Cancelled`."""
        self.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for canceller in self._running.values():
                canceller.cancel()
            # What lost its node waits for another, and has begun.
            tasks = [*self._running, *itertools.chain.from_iterable(self._waiting)]
            self._running.clear()
            self._waiting.clear()
        for task in tasks:
            why = "the pool was closed while the call ran"
            task.future.set_exception(Cancelled(why, outcome="ran-and-failed"))
        self.shutdown()

    _leave = close

    # Showing.

    @property
    def nodes(self) -> list[str]:
        """The names of the nodes that are there still."""
        return [place.name for place in self._places if place.alive]

    def __repr__(self) -> str:
        return f"<gvm.Pool of {', '.join(self.nodes) or 'no nodes'}: {len(self._running)} running, {self._queued()} waiting>"

    def _queued(self) -> int:
        with self._lock:
            return sum(map(len, self._waiting))

    def _repr_html_(self) -> str:
        rows = [(p.name, p.busy, p.done, "alive" if p.alive else "gone") for p in self._places]
        return _html.table(f"pool, {self._queued()} waiting", ("node", "running", "done", "state"), rows)


def _serve(completions: Completions) -> None:
    while completions.wait():
        completions.drain()


def _bar(progress: bool, total: int, title: str) -> Any:
    if not progress:
        return None
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: pip install 'gvm[progress]'") from error
    return tqdm(total=total, desc=title)


def _results(futures: deque[Future[Any]], end: float | None, bar: Any) -> Iterator[Any]:
    if bar is not None:
        tell: Callable[[Future[Any]], object] = lambda _: bar.update()
        for future in futures:
            future.add_done_callback(tell)
    return _in_order(futures, end, bar)


def _in_order(futures: deque[Future[Any]], end: float | None, bar: Any) -> Iterator[Any]:
    try:
        while futures:
            left = None if end is None else max(0.0, end - time.monotonic())
            yield futures[0].result(left)
            futures.popleft()
    finally:
        for future in futures:
            future.cancel()
        if bar is not None:
            bar.close()
