"""Requests in an event loop, and methods that have an awaitable twin.

In: requests that Rust prepared (`Op`). Out: their results, after a blocking wait or an `await`. One queue per event
loop carries finished requests back to it. Must not know: what is requested.
"""

from __future__ import annotations

import concurrent.futures
import functools
import inspect
import sys
import threading
import types
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._gvm import Completions, Op
from ._values import Wit

if TYPE_CHECKING:
    import asyncio

    from ._future import Future

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
S = TypeVar("S")

Steps = Generator[Op, Any, R]
"""A generator of requests: each `Op` that it yields is sent back as the result of that `Op`."""

_BEAT = 0.05
"""Seconds between two checks for signals while an event loop of the main thread awaits a request or a future."""


class _Attended:
    """One event loop: its queue, and the timer that wakes it.

    A signal handler that cancels a task (a notebook's interrupt) does not wake the loop. So while the loop awaits a
    request or a future of GVM, a timer wakes it several times per second, and the loop sees that the task was
    cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = Completions(True)
        self.futures: weakref.WeakSet[concurrent.futures.Future[Any]] = weakref.WeakSet()
        # Python runs signal handlers only on the main thread.
        self._beats = threading.current_thread() is threading.main_thread()
        self._beating = False
        loop.add_reader(self.queue.fileno(), self.queue.drain)

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wakes the loop regularly while a request or a future is pending."""
        if self._beats and not self._beating:
            self._beating = True
            loop.call_later(_BEAT, self._beat, weakref.ref(loop))

    def _beat(self, loop: weakref.ref[asyncio.AbstractEventLoop]) -> None:
        self._beating = False
        known = loop()
        if known is not None and (self.queue.running() or not all(future.done() for future in self.futures)):
            self.attend(known)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Attended] = weakref.WeakKeyDictionary()


def _attended(loop: asyncio.AbstractEventLoop) -> _Attended:
    known = _loops.get(loop)
    if known is None:
        known = _loops[loop] = _Attended(loop)
    return known


def running() -> tuple[asyncio.Future[Any], Completions]:
    """Returns a new future of the running loop, and the queue that delivers results to the loop."""
    # A caller in a loop has imported it already. The compiler process starts faster without it.
    import asyncio

    loop = asyncio.get_running_loop()
    attended = _attended(loop)
    attended.attend(loop)
    return loop.create_future(), attended.queue


def attend(future: concurrent.futures.Future[Any]) -> None:
    """Wakes the running loop regularly, if there is one, until this future is done, because it may be awaited there."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return
    attended = _attended(loop)
    attended.futures.add(future)
    attended.attend(loop)


async def awaiting(op: Op) -> Any:
    """Wraps a request in a coroutine, which `asyncio.create_task` and similar functions need."""
    return await op


def wait(steps: Steps[R]) -> R:
    """Runs the steps of a request on this thread."""
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


class _Method:
    """The class attribute for a method that has an awaitable twin, `aio`.

    It behaves like a plain function of the class, also for `inspect`, `help` and `mock`.
    """

    __name__: str
    __qualname__: str

    def __init__(self, make: Callable[..., Any]) -> None:
        functools.update_wrapper(self, make)  # type: ignore[arg-type]
        self.__code__ = _plain.__code__
        self.__defaults__ = None
        self.__kwdefaults__ = None
        self._make = make

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # Functions cannot be subclassed, and tools that inspect classes test for a function.
        return types.FunctionType

    @property
    def __signature__(self) -> inspect.Signature:
        whole = inspect.signature(self._make)
        given = str(whole.return_annotation).removeprefix("Steps[").removesuffix("]")
        return whole.replace(return_annotation=Wit(given))

    def __reduce__(self) -> str:
        return self.__qualname__

    def __repr__(self) -> str:
        return f"<function {self.__qualname__}>"


def _plain(*args: Any, **kwargs: Any) -> None:
    """Supplies the code object of all these methods: that of a function which neither awaits nor yields."""


class twin(_Method, Generic[S, P, R]):
    """Turns a generator of requests into a method with an awaitable twin."""

    def __init__(self, make: Callable[Concatenate[S, P], Steps[R]]) -> None:
        super().__init__(make)

    def __call__(self, instance: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = wait(self._make(instance, *args, **kwargs))
        return result

    def aio(self, instance: S, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """The awaitable twin."""
        return _await(self._make(instance, *args, **kwargs))

    @overload
    def __get__(self, instance: None, owner: Any) -> twin[S, P, R]: ...
    @overload
    def __get__(self, instance: S, owner: Any) -> Bound[P, R, R]: ...
    def __get__(self, instance: S | None, owner: Any) -> Any:
        return self if instance is None else Bound(self, instance)


class future_twin(_Method, Generic[S, P]):
    """Turns a method that returns a future into one with an awaitable twin that returns the future's result."""

    def __init__(self, make: Callable[Concatenate[S, P], Future[Any]]) -> None:
        super().__init__(make)

    def __call__(self, instance: S, /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        made: Future[Any] = self._make(instance, *args, **kwargs)
        return made

    async def aio(self, instance: S, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The awaitable twin. Cancelling or dropping it cancels the future."""
        import asyncio

        future = self(instance, *args, **kwargs)
        try:
            return await asyncio.wrap_future(future)
        finally:
            future.cancel()

    @overload
    def __get__(self, instance: None, owner: Any) -> future_twin[S, P]: ...
    @overload
    def __get__(self, instance: S, owner: Any) -> Bound[P, Future[Any], Any]: ...
    def __get__(self, instance: S | None, owner: Any) -> Any:
        return self if instance is None else Bound(self, instance)


class Bound(Generic[P, R, A]):
    """A method of one object. Call it, or await its `aio`."""

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance
        self.__doc__ = function.__doc__

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return types.MethodType

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.__func__(self.__self__, *args, **kwargs)
        return result

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, A]:
        """The awaitable twin."""
        made: Coroutine[Any, Any, A] = self.__func__.aio(self.__self__, *args, **kwargs)
        return made

    def __getattr__(self, name: str) -> Any:
        # A method passes attributes that it does not have on to its function.
        if name in ("__func__", "__self__"):
            raise AttributeError(name)
        return getattr(self.__func__, name)

    def __get__(self, instance: object, owner: Any = None) -> Bound[P, R, A]:
        return self

    def __eq__(self, other: object) -> bool:
        return type(other) is Bound and self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<method {self.__func__.__qualname__} of {self.__self__!r}>"


def background(op: Op) -> None:
    """Starts a request and ignores its result. May be called from any thread, also by a finalizer."""
    op.begin(Completions(False), lambda result, error: None)
