"""The future of one call of a pool, and the results of many calls in order.

In: tasks that a pool accepted. Out: results, errors that name the item that failed, and calls to the pool to cancel
tasks. Must not know: how a pool assigns tasks to nodes.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import reprlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from ._errors import Closed, Error, Timeout, WitError
from ._loop import attend

T = TypeVar("T")


class _Owner(Protocol):
    def cancelled(self, task: Task) -> None:
        """Forgets a task whose future was cancelled, and stops it."""


class Future(concurrent.futures.Future[T]):
    """The future of one call. `cancel()` also stops a call that runs. The call is cancelled when nothing refers to
    the future or its pool any more."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        # The reference keeps the pool alive until the future is done.
        self._task: Task | None = task

    def cancel(self) -> bool:
        """Cancels the call and stops the guest, wherever it runs. Returns False if the call has ended."""
        # The base class sees the future as pending until it ends, so it can be cancelled until then.
        if not super().cancel():
            return False
        if task := self._task:
            task.owner.cancelled(task)
        return True

    def running(self) -> bool:
        """Returns whether the call was sent to a node and has not ended."""
        task = self._task
        return task is not None and task.begun and not self.done()

    def add_done_callback(self, fn: Callable[[concurrent.futures.Future[T]], object]) -> None:
        """Calls `fn` with the future once it is done."""
        attend(self)
        super().add_done_callback(fn)

    def __repr__(self) -> str:
        task = self._task
        if self.cancelled():
            state = "cancelled"
        elif self.done():
            state = "done"
        else:
            state = "running" if self.running() else "waiting"
        return f"<gvm.Future{f' of {task.target}' if task else ''}: {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.Future cannot be pickled or copied: its call belongs to this process")


class Task:
    """One call of a pool, from its submission to its end."""

    __slots__ = ("owner", "number", "future", "target", "kind", "args", "tries", "begun", "settled", "place", "context")

    def __init__(
        self, owner: _Owner, number: int, target: str, kind: str, args: tuple[Any, ...], tries: int | None
    ) -> None:
        self.owner = owner
        self.number = number
        self.future: Future[Any] = Future(self)
        self.target = target
        self.kind = kind
        self.args = args
        self.tries = tries
        """How often it may run again after it may already have run. None means always."""
        self.begun = False
        self.settled = False
        """Whether a caller has claimed the right to end the future. Only one caller may."""
        self.place: Any = None
        # A notebook uses it to find the cell that this task's output belongs to.
        self.context = contextvars.copy_context()

    def again(self) -> bool:
        """Returns whether the task may run once more, and counts that attempt."""
        if self.tries is None:
            return True
        self.tries -= 1
        return self.tries >= 0

    def end(self, result: Any, error: BaseException | None) -> None:
        """Ends the future of a settled task."""
        future = self.future
        if future.set_running_or_notify_cancel():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        future._task = None


class Results(Iterator[Any]):
    """The results of a `map`, in the order of its items.

    The first item that fails raises its error and ends the iteration. The error has the `index` and the `arguments`
    of the item. The remaining calls are cancelled then, on `close()`, and when nothing refers to the iterator any
    more.
    """

    def __init__(self, tasks: list[Task], timeout: float | None, bar: Any) -> None:
        self._tasks = deque(enumerate(tasks))
        self._total = len(tasks)
        self._timeout = timeout
        self._end = None if timeout is None else time.monotonic() + timeout
        self._bar = bar
        self._closed = False
        if bar is not None:
            tell: Callable[[object], object] = lambda _: bar.update()
            for task in tasks:
                task.future.add_done_callback(tell)

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        if self._closed:
            raise Closed("the iterator is closed")
        if not self._tasks:
            self._stop()
            raise StopIteration
        index, task = self._tasks[0]
        try:
            result = self._wait(task)
        except BaseException as error:
            if task.future.done() and not task.future.cancelled() and task.future.exception() is error:
                _name_item(error, index, task)
            self._stop()
            raise
        self._tasks.popleft()
        return result

    def _wait(self, task: Task) -> Any:
        left = None if self._end is None else max(0.0, self._end - time.monotonic())
        try:
            return task.future.result(left)
        except TimeoutError:
            if task.future.done():
                raise
        came = self._total - len(self._tasks)
        why = f"only {came} of {self._total} results of `{task.target}` arrived within {self._timeout} s"
        raise Timeout(why, outcome="unknown", help="pass a larger `timeout`")

    def _stop(self) -> None:
        # In reverse order, so that no task starts in the slot that another one frees.
        while self._tasks:
            self._tasks.pop()[1].future.cancel()
        bar, self._bar = self._bar, None
        if bar is not None:
            bar.close()

    def close(self) -> None:
        """Cancels the calls that have not ended. Has no effect the second time."""
        self._closed = True
        self._stop()

    def __del__(self) -> None:
        self._stop()

    def __reduce__(self) -> Any:
        raise TypeError("the results of a map cannot be pickled or copied: they belong to this process")

    def __repr__(self) -> str:
        return f"<gvm.Results: {self._total - len(self._tasks)} of {self._total} taken>"


def _name_item(error: BaseException, index: int, task: Task) -> None:
    """Adds the item of a map to the error that the item raised."""
    arguments = ", ".join(map(reprlib.repr, task.args))
    error.add_note(f"in item {index}: {task.target}({arguments})")
    if isinstance(error, (Error, WitError)):
        error.index, error.arguments = index, task.args
