"""The nodes of a pool, with what the pool knows about each.

In: nodes, peers, tasks. Out: for a task, the request that runs it on one node. Must not know: which node a task
should go to; futures.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from . import _check
from ._errors import Closed, Error
from ._loop import wait
from ._nodes import Node
from ._peers import Peer

if TYPE_CHECKING:
    from ._future import Task
    from ._gvm import Function, Lane, Op

_FAST = 0.001
"""Seconds that a call of a fast function takes at most on its node."""

_AHEAD = 0.002
"""Seconds of work that a node has ahead of the calls that it runs. Tasks are spread evenly but for this."""

_LEAST = 0.00001
"""Seconds that a call is taken to need at least."""

_MOST = 256
"""How many tasks a node has ahead at most."""


class Place:
    """One node: how many tasks it runs, and whether it can be reached."""

    def __init__(self, node: Node | Peer) -> None:
        self.node = node.node if isinstance(node, Peer) else node
        self.place = node.name if isinstance(node, Peer) else None
        self.name = node.name
        self.busy = 0
        self.done = 0
        self.alive = True
        self.denied = False
        """Whether the node refused to connect again."""
        self.functions: dict[str, Function] = {}
        self.lane: Lane | None = None
        """Runs tasks of functions. The pool makes it for its first such task on this node."""
        self._paces: dict[str, float] = {}
        """Seconds that a call of each function takes, on average."""

    def room(self, target: str, in_flight: int) -> tuple[int, int]:
        """Returns how many more tasks of a function the node takes, if it runs at most `in_flight` calls at once: those
        that can run now, and all."""
        pace = self._paces.get(target, _FAST)
        ahead = min(_MOST, int(in_flight * _AHEAD / pace)) if self.is_fast(target) else 0
        return max(0, in_flight - self.busy), in_flight + ahead - self.busy

    def is_fast(self, target: str) -> bool:
        """Returns whether calls of a function have been fast."""
        return self._paces.get(target, _FAST) < _FAST

    def note(self, target: str, took: float) -> None:
        """Records how long a call took. A call that compiled the module first is soon forgotten."""
        took = max(took, _LEAST)
        pace = self._paces.get(target, took)
        self._paces[target] = (pace + took) / 2 if took < pace else (7 * pace + took) / 8

    def note_slow(self, target: str) -> None:
        """Records that calls of a function have kept others waiting."""
        self._paces[target] = _FAST

    def prepare(self, task: Task, options: dict[str, Any]) -> Op:
        """Returns the request that runs a task on this node."""
        match task.kind:
            case "function":
                return self.function(task.target, options).prepare(task.args)
            case "text":
                return self.node._core.evaluate(self.place, task.target, options)
            case _:
                return self.node._core.main(self.place, task.target, list(task.args), options)

    def function(self, target: str, options: dict[str, Any]) -> Function:
        """Returns a function of this node with the options of the pool.

        Raises the error of a module or a function that does not exist.
        """
        found = self.functions.get(target)
        if found is None:
            known = wait(self.node._function(self.place, target))
            found = self.functions[target] = known.options(**options)
        return found

    def reach(self, pause: float) -> Op | None:
        """Returns the request that checks after a pause whether a lost node is connected again.

        The request also connects to it, unless the caller disconnected it or it refused. Returns None if the node of
        this process is closed, or if there is no other node to reach.
        """
        if self.place is None or self.node.closed:
            return None
        dial = not self.denied and self.name not in self.node._apart
        return self.node._core.reach(self.place, dial, pause)

    def look(self) -> bool:
        """Checks whether a lost node is connected again."""
        if self.place is None or self.node.closed:
            return False
        try:
            self.alive = self.place in wait(self.node._list())
        except Error:
            # The node of this process is being closed.
            return False
        return self.alive


def places(nodes: Iterable[Node | Peer]) -> list[Place]:
    """Checks the nodes of a pool, and returns a place for each."""
    if isinstance(nodes, (Node, Peer, str)) or not isinstance(nodes, Iterable):
        _check.refuse("nodes", "several nodes or peers", nodes)
    found = list(nodes)
    if not found:
        _check.refuse("nodes", "at least one node or peer", found)
    for place, node in enumerate(found):
        if not isinstance(node, (Node, Peer)):
            _check.refuse(f"nodes[{place}]", "a gvm.Node or a gvm.Peer", node)
        owner = node.node if isinstance(node, Peer) else node
        if owner.closed:
            raise Closed(f"the node `{owner.name}` is closed", help="make a new `gvm.Node`")
    return [Place(node) for node in found]
