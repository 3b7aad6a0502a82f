"""What happens to a node without its asking.

In: what Rust says of it. Out: events, one after another, to iterate over or for a function. Must not know: what
a node is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from . import _check, _gvm
from ._loop import Steps, twin


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a node without its asking."""

    kind: Literal[
        "connected", "down", "gpmd-lost", "gpmd-back", "gpmd-refused", "asked", "ask-ended", "waiting", "leaving"
    ]
    node: str | None = None
    """The node that connected, went, or asks to connect (`asked`: `node.answer(event, True)`)."""
    why: str | None = None
    """Why it went (`disconnected`, `connection lost`, `shut down`), or how a question ended."""
    number: int | None = None
    """Of a question, which; of a node that is leaving, how many calls it waits for."""


class Events:
    """What happens to a node from now on, in order: iterate over it, or `async for`. It ends with the node."""

    def __init__(self, core: _gvm.Events) -> None:
        self._core = core

    @twin
    def get(self, timeout: float | None = None) -> Steps[Event | None]:
        """The next event; None where none came within `timeout` seconds, or the node has ended."""
        words = yield self._core.next(_check.seconds("timeout", timeout))
        return None if words is None else Event(*words)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.get, None)

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> Event:
        event = await self.get.aio()
        if event is None:
            raise StopAsyncIteration
        return event

    def __reduce__(self) -> Any:
        raise TypeError("the events of a node cannot be pickled or copied: they belong to this process")


def tell(events: Events, on_event: Callable[[Event], object]) -> None:
    """Calls a function with each event, until the node has ended."""
    while (event := events.get()) is not None:
        try:
            on_event(event)
        except Exception:
            sys.excepthook(*sys.exc_info())
