"""The tasks of a pool: where they wait, which node takes them, how they end.

In: tasks, nodes. Out: futures, each of which ends exactly once. A task goes to the least busy node; a node that
dies gives what had not started to the others, and what may have run only where that was allowed; a node that
comes back gets tasks again. Must not know: how tasks are submitted, how nodes are reached.
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

from . import _life
from ._errors import Cancelled, Closed, ConnectionDenied, Error, NodeDown, NodeNotConnected
from ._future import Task
from ._gvm import Canceller, Completions
from ._places import Place

_SOON, _LATER = 0.02, 1.0
"""Seconds between two looks at a node that was lost: at first, and at the most."""


class Work:
    """The tasks of one pool, and a thread of their own that hears how they end.

    It lives as long as the pool or a future of it, and takes its thread, and what runs, with it.
    """

    def __init__(self, places: list[Place], in_flight: int, options: dict[str, Any]) -> None:
        self.places = places
        self.running: dict[int, Task] = {}
        self.closed = False
        self._in_flight = in_flight
        self._options = options
        # A finalizer may cancel a future wherever it runs, under this lock too.
        self._lock = threading.RLock()
        self._idle = threading.Condition(self._lock)
        self._waiting: deque[deque[Task]] = deque()
        self._failed: list[tuple[Task, BaseException]] = []
        self._placing = False
        self._changed = False
        self._completions = completions = Completions(False)
        self._cancellers: dict[int, Canceller] = {}
        self._thread = threading.Thread(target=_serve, args=(completions,), name="gvm-pool", daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(self, _abandon, completions, self._cancellers)
        self._finalizer.atexit = False
        _life.keep(self)

    def check(self) -> None:
        """Refuses more tasks once there was a shutdown."""
        if self.closed:
            raise Closed("the pool has been shut down")

    def put(self, chunks: Iterable[deque[Task]]) -> None:
        """Takes tasks; those of one chunk go to one node together."""
        with self._lock:
            self.check()
            self._waiting.extend(chunks)
        self._go_on()

    def waiting(self) -> int:
        """How many tasks have not been given to a node."""
        with self._lock:
            return sum(not task.settled for task in itertools.chain.from_iterable(self._waiting))

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
                if not self.running and not self._waiting:
                    self._idle.notify_all()
                    if self.closed:
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
        alive = [place for place in self.places if place.alive]
        # Where none is left, one may have come back a moment ago.
        return alive or [place for place in self.places if place.look()]

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
        self.running[number] = task
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
        if number not in self.running and (canceller := self._cancellers.pop(number, None)):
            # It was cancelled meanwhile.
            canceller.cancel()

    def _release(self, task: Task) -> bool:
        """Frees a task's place, and stops what runs there. False where it has none."""
        if self.running.pop(task.number, None) is None:
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
            index = self.places.index(place)
            ended = functools.partial(_looked, weakref.ref(self), index, pause)
            self._cancellers[-1 - index] = op.begin(self._completions, ended)

    def _looked(self, index: int, pause: float, reached: bool | None, error: BaseException | None) -> None:
        place = self.places[index]
        with self._lock:
            self._cancellers.pop(-1 - index, None)
            if isinstance(error, ConnectionDenied):
                place.denied = True
            if reached:
                place.alive, place.denied = True, False
            elif not self.closed:
                self._watch(place, min(2 * pause, _LATER))
        self._go_on()

    # Ending of tasks.

    def _ended(self, number: int, result: Any, error: BaseException | None) -> None:
        """What became of a task: called by the pool's thread."""
        with self._lock:
            task = self.running.get(number)
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

    def cancelled(self, task: Task) -> None:
        """Forgets a task whose future was cancelled, and stops it."""
        with self._lock:
            ends = _settle(task)
            freed = self._release(task)
        if ends:
            # This tells whoever waits that it is cancelled.
            task.end(None, None)
        if ends or freed:
            self._go_on()

    # Ending.

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Takes no more tasks; those it has go on, unless `cancel_futures` cancels them, those that run too."""
        with self._lock:
            self.closed = True
            every = [*itertools.chain.from_iterable(self._waiting), *self.running.values()]
            tasks = every if cancel_futures else []
        for task in tasks:
            task.future.cancel()
        self._go_on()
        if wait:
            with self._lock:
                self._idle.wait_for(lambda: not self.running and not self._waiting)
            if threading.current_thread() is not self._thread:
                self._thread.join()

    def _finish(self) -> None:
        """Lets the thread go. Under the lock."""
        self._finalizer.detach()
        _abandon(self._completions, self._cancellers)

    def close(self) -> None:
        """Ends at once: cancels what has not begun, and what runs, which ends with `gvm.Cancelled`."""
        with self._lock:
            self.closed = True
            waiting = [task for task in itertools.chain.from_iterable(self._waiting) if _settle(task)]
            running = [task for task in self.running.values() if _settle(task)]
            self._waiting.clear()
            for task in [*self.running.values()]:
                self._release(task)
        for task in [*waiting, *running]:
            if not task.begun:
                task.future.cancel()
            why = "the pool was closed while the call ran"
            task.end(None, Cancelled(why, outcome="ran-and-failed"))
        self.shutdown(True, False)

    _leave = close


def _serve(completions: Completions) -> None:
    while completions.wait():
        completions.drain()


def _abandon(completions: Completions, cancellers: dict[int, Canceller]) -> None:
    """Stops what runs for a pool, and the pool's thread."""
    for canceller in [*cancellers.values()]:
        canceller.cancel()
    cancellers.clear()
    completions.close()


def _ended(work: weakref.ref[Work], number: int, result: Any, error: BaseException | None) -> None:
    if known := work():
        known._ended(number, result, error)


def _looked(work: weakref.ref[Work], index: int, pause: float, reached: Any, error: BaseException | None) -> None:
    if known := work():
        known._looked(index, pause, reached, error)


def _settle(task: Task) -> bool:
    """Takes it upon the caller to end a task's future; False where somebody has. Under the pool's lock."""
    settled, task.settled = task.settled, True
    return not settled
