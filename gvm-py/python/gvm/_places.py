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
    from ._gvm import Function, Op


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

    def prepare(self, task: Task, options: dict[str, Any]) -> Op:
        """Returns the request that runs a task on this node."""
        match task.kind:
            case "function":
                return self._function(task.target, options).prepare(task.args)
            case "text":
                return self.node._core.evaluate(self.place, task.target, options)
            case _:
                return self.node._core.main(self.place, task.target, list(task.args), options)

    def _function(self, target: str, options: dict[str, Any]) -> Function:
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
