"""The tasks of a pool: where they wait, which node runs them, how they end.

In: tasks, nodes. Out: futures, each of which ends exactly once. A task goes to the least busy node. When a node is
lost, its tasks that had not started go to the other nodes; tasks that may have run do so only if the caller allowed
it. A node that comes back gets tasks again. Tasks of a function that is fast go to a node in groups, ahead of the calls
that it runs, so that the node never waits for Python. Must not know: how tasks are submitted, how nodes are reached.
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
from ._gvm import Canceller, Completions, Lane
from ._places import Place

_SOON, _LATER = 0.02, 1.0
"""Seconds between two checks of a lost node: at first, and at most."""


_End = tuple[int, Any, BaseException | None, float | None]
"""The end of a task of a group: its number, result, error, and seconds if they were measured."""


class Work:
    """The tasks of one pool, and the thread that receives their results.

    It exists as long as the pool or one of its futures. When it is collected, its thread and its running calls end.
    """

    def __init__(self, places: list[Place], in_flight: int, options: dict[str, Any]) -> None:
        self.places = places
        self.running: dict[int, Task] = {}
        self.closed = False
        self._in_flight = in_flight
        self._options = options
        # A finalizer may run at any point, also on a thread that holds this lock, and cancel a future.
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
        self._lanes: list[Lane] = []
        self._finalizer = weakref.finalize(self, _abandon, completions, self._cancellers, self._lanes)
        self._finalizer.atexit = False
        _life.keep(self)

    def check(self) -> None:
        """Raises `gvm.Closed` after a shutdown."""
        if self.closed:
            raise Closed("the pool is shut down", help="make a new `gvm.Pool`")

    def put(self, chunks: Iterable[deque[Task]]) -> None:
        """Accepts tasks. The tasks of one chunk go to one node together."""
        with self._lock:
            self.check()
            # Tasks that already wait come first. The end of a task that runs makes room for them.
            held_up = bool(self._waiting and self.running)
            self._waiting.extend(chunks)
        if not held_up:
            self._go_on()

    def waiting(self) -> int:
        """Returns how many tasks were not sent to a node yet."""
        with self._lock:
            return sum(not task.settled for task in itertools.chain.from_iterable(self._waiting))

    # Assigning tasks to nodes.

    def _go_on(self) -> None:
        """Starts the tasks that can start, then ends the futures of tasks that failed.

        Futures end outside of the lock, because a future calls functions of the caller.
        """
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

    # The next functions run under the lock.

    def _dispatch(self) -> None:
        # A finalizer may run during these calls and free a slot. The flag makes the loop below look again.
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
                target, alive = chunk[0].target, self._alive()
                place = max(alive, key=lambda place: place.room(target, self._in_flight), default=None)
                if place is None:
                    self._give_up()
                    continue
                # A node that has nothing to do comes before work ahead of another one.
                _, room = place.room(target, self._in_flight)
                if room <= 0:
                    return
                if len(chunk) == 1 and chunk[0].kind == "function":
                    fair = -(-len(self._waiting) // len(alive))
                    self._begin_group(self._take_group(target, min(room, fair)), place)
                else:
                    self._begin_all(self._waiting.popleft(), place)

    def _take_group(self, target: str, most: int) -> list[Task]:
        """Takes the next tasks of one function, which wait alone."""
        group: list[Task] = []
        waiting = self._waiting
        while waiting and len(group) < most:
            chunk = waiting[0]
            if len(chunk) != 1 or chunk[0].target != target:
                break
            waiting.popleft()
            if not chunk[0].settled:
                group.append(chunk[0])
        return group

    def _begin_group(self, tasks: list[Task], place: Place) -> None:
        """Starts tasks of one function together."""
        for task in tasks:
            task.begun, task.place = True, place
            self.running[task.number] = task
        place.busy += len(tasks)
        lane = place.lane
        try:
            function = place.function(tasks[0].target, self._options)
            if lane is None:
                ended = functools.partial(_group_ended, weakref.ref(self))
                lane = place.lane = Lane(self._completions, ended, self._in_flight)
                self._lanes.append(lane)
            lane.push(function, [(task.number, task.args, task.context) for task in tasks])
        except Exception as error:
            for task in reversed(tasks):
                self._release(task)
                self._fail(task, place, error)
        except BaseException as error:
            # Ctrl-C ends the first task and propagates to the caller of `submit`. No call has started.
            for task in reversed(tasks):
                if self._release(task):
                    self._wait_again(task)
            if self._waiting and self._waiting[0][0] is tasks[0]:
                self._waiting.popleft()
                self._failed.append((tasks[0], error))
            raise
        if lane is not None:
            for task in tasks:
                if task.number not in self.running:
                    # It was cancelled meanwhile.
                    lane.cancel(task.number)

    def _wait_again(self, task: Task) -> None:
        """Makes a task that has not started the next one that waits."""
        task.begun = False
        self._waiting.appendleft(deque([task]))

    def _alive(self) -> list[Place]:
        alive = [place for place in self.places if place.alive]
        # If none is left, one may have come back a moment ago.
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
            # Ctrl-C ends this task and propagates to the caller of `submit`.
            self._release(task)
            self._failed.append((task, error))
            raise
        if number not in self.running and (canceller := self._cancellers.pop(number, None)):
            # It was cancelled meanwhile.
            canceller.cancel()

    def _release(self, task: Task) -> bool:
        """Frees the slot of a task and stops its call. Returns False if the task has no slot."""
        if self.running.pop(task.number, None) is None:
            return False
        task.place.busy -= 1
        if canceller := self._cancellers.pop(task.number, None):
            canceller.cancel()
        elif task.place.lane is not None:
            task.place.lane.cancel(task.number)
        return True

    def _fail(self, task: Task, place: Place, error: BaseException) -> None:
        """Ends a task, unless its node is lost and the task may run on another node."""
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
            error = NodeDown(
                f"no node of the pool is left to run `{task.target}`",
                help="start a node again, or make a new `gvm.Pool` over running nodes",
            )
            self._failed.append((task, error))
        self._waiting.clear()

    # Nodes that come back.

    def _watch(self, place: Place, pause: float) -> None:
        try:
            op = place.reach(pause)
        except Error:
            # The node of this process is being closed.
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
        """Handles the result of a task. The thread of the pool calls it."""
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

    def _group_ended(self, ends: list[_End], returned: list[int]) -> None:
        """Handles the results of tasks that started in groups, and tasks that a node could not start soon enough."""
        done: list[tuple[Task, Any]] = []
        with self._lock:
            for number, result, error, took in ends:
                # A task that was cancelled is not there.
                if task := self.running.pop(number, None):
                    place: Place = task.place
                    place.busy -= 1
                    if error is None:
                        place.done += 1
                        if took is not None:
                            place.note(task.target, took)
                        if _settle(task):
                            done.append((task, result))
                    else:
                        self._fail(task, place, error)
            for number in reversed(returned):
                if task := self.running.pop(number, None):
                    task.place.busy -= 1
                    task.place.note_slow(task.target)
                    self._wait_again(task)
        self._go_on()
        for task, result in done:
            task.end(result, None)

    def cancelled(self, task: Task) -> None:
        """Forgets a task whose future was cancelled, and stops it."""
        with self._lock:
            ends = _settle(task)
            freed = self._release(task)
        if ends:
            # This notifies the threads that wait for the future.
            task.end(None, None)
        if ends or freed:
            self._go_on()

    # Ending.

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """Accepts no more tasks. Tasks that it has continue, unless `cancel_futures` cancels them, running ones too."""
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
        """Ends the thread of the pool. Runs under the lock."""
        self._finalizer.detach()
        _abandon(self._completions, self._cancellers, self._lanes)

    def close(self) -> None:
        """Ends at once. Cancels waiting calls, and stops running calls, whose futures raise `gvm.Cancelled`."""
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


def _abandon(completions: Completions, cancellers: dict[int, Canceller], lanes: list[Lane]) -> None:
    """Stops the running calls of a pool, and the pool's thread."""
    for canceller in [*cancellers.values()]:
        canceller.cancel()
    cancellers.clear()
    for lane in lanes:
        lane.close()
    completions.close()


def _ended(work: weakref.ref[Work], number: int, result: Any, error: BaseException | None) -> None:
    if known := work():
        known._ended(number, result, error)


def _group_ended(work: weakref.ref[Work], ends: list[_End], returned: list[int]) -> None:
    if known := work():
        known._group_ended(ends, returned)


def _looked(work: weakref.ref[Work], index: int, pause: float, reached: Any, error: BaseException | None) -> None:
    if known := work():
        known._looked(index, pause, reached, error)


def _settle(task: Task) -> bool:
    """Claims the right to end the future of a task. Returns False if another caller has it. Runs under the lock."""
    settled, task.settled = task.settled, True
    return not settled
