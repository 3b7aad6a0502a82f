"""The events of a node.

In: events from Rust. Out: the same as objects, to iterate over or to pass to a function. Must not know: the class
`Node`.
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
    """Something that happened to a node and that the node did not start itself."""

    kind: Literal[
        "connected", "down", "gpmd-lost", "gpmd-back", "gpmd-refused", "asked", "ask-ended", "waiting", "leaving"
    ]
    node: str | None = None
    """The other node, if the event is about one. Answer `asked` with `node.answer(event, True)`."""
    why: str | None = None
    """Why the node is gone (`disconnected`, `connection lost`, `shut down`), how its question ended, or why gpmd
    refused this node."""
    number: int | None = None
    """The number of a question, or how many calls a node that is leaving waits for."""


class Events:
    """The events of a node from now on, in order. Iterate with `for` or `async for`. Ends when the node ends."""

    def __init__(self, core: _gvm.Events) -> None:
        self._core = core

    @twin
    def get(self, timeout: float | None = None) -> Steps[Event | None]:
        """Waits for the next event. Returns None if none came within `timeout` seconds, or if the node has ended."""
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
    """Calls a function with each event until the node ends."""
    while (event := events.get()) is not None:
        try:
            on_event(event)
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
