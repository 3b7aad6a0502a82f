"""Requests in an event loop, and methods that have an awaitable twin.

In: requests that Rust has made ready (`Op`). Out: their results, waited for or awaited. One queue a loop
brings what ended back to it. Must not know: what is requested.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._gvm import Completions, Op
from ._values import Wit

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")

Steps = Generator[Op, Any, R]
"""What a request consists of: each `Op` that it yields comes back as its result."""

_queues: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Completions] = weakref.WeakKeyDictionary()


def running() -> tuple[asyncio.Future[Any], Completions]:
    """A future of the running loop, and the queue by which it is told of results."""
    # Whoever gets here has it already; the compiler child starts sooner without.
    import asyncio

    loop = asyncio.get_running_loop()
    queue = _queues.get(loop)
    if queue is None:
        queue = Completions(True)
        loop.add_reader(queue.fileno(), queue.drain)
        _queues[loop] = queue
    return loop.create_future(), queue


async def awaiting(op: Op) -> Any:
    """The request as a coroutine, for `asyncio.create_task` and its like."""
    return await op


def wait(steps: Steps[R]) -> R:
    """Carries steps out on this thread."""
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            op = steps.send(answer) if failed is None else steps.throw(failed)
        except StopIteration as done:
            result: R = done.value
            return result
        try:
            answer, failed = op.wait(), None
        except BaseException as error:
            failed = error


async def _await(steps: Steps[R]) -> R:
    answer: Any = None
    failed: BaseException | None = None
    while True:
        try:
            op = steps.send(answer) if failed is None else steps.throw(failed)
        except StopIteration as done:
            result: R = done.value
            return result
        try:
            answer, failed = await op, None
        except BaseException as error:
            failed = error


class Bound(Generic[P, R]):
    """A method that can be called, or awaited by its `aio`."""

    def __init__(self, owner: object, make: Callable[..., Steps[R]]) -> None:
        self.__self__ = owner
        self.__func__ = make
        self.__name__ = make.__name__
        self.__qualname__ = make.__qualname__
        self.__doc__ = make.__doc__

    @property
    def __signature__(self) -> inspect.Signature:
        whole = inspect.signature(self.__func__)
        given = str(whole.return_annotation).removeprefix("Steps[").removesuffix("]")
        _, *params = whole.parameters.values()
        return whole.replace(parameters=params, return_annotation=Wit(given))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return wait(self.__func__(self.__self__, *args, **kwargs))

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The awaitable twin."""
        return _await(self.__func__(self.__self__, *args, **kwargs))

    def __get__(self, instance: object, owner: Any = None) -> Bound[P, R]:
        return self

    def __repr__(self) -> str:
        return f"<method {type(self.__self__).__name__}.{self.__name__} of {self.__self__!r}>"


class twin(Generic[S, P, R]):
    """Makes of a generator of requests a method with an awaitable twin."""

    def __init__(self, make: Callable[Concatenate[S, P], Steps[R]]) -> None:
        self._make = make
        self.__name__ = make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: Any) -> twin[S, P, R]: ...
    @overload
    def __get__(self, instance: S, owner: Any) -> Bound[P, R]: ...
    def __get__(self, instance: S | None, owner: Any) -> Any:
        return self if instance is None else Bound(instance, self._make)


def background(op: Op) -> None:
    """Makes a request whose result nobody waits for, from wherever it may be (a finalizer)."""
    op.begin(Completions(False), lambda result, error: None)
