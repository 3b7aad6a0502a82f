"""The class `Peer`, for connected nodes.

In: arguments of methods. Out: modules, live instances and results of calls on the connected node. Must not know: how
a node connects; pools, private networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _check, _html
from ._errors import NodeNotConnected
from ._loop import Steps, twin
from ._module import Instance, Module
from ._targets import Target

if TYPE_CHECKING:
    from ._nodes import Node


class Peer:
    """A node that is connected to a node of this process. Modules can run on it."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        """The node of this process that is connected to it."""
        self.name = name

    @twin
    def run(self, target: Target, *args: Any, **options: Any) -> Steps[Any]:
        """Calls a function there, or runs a module's main there; see `Node.run`."""
        result = yield from self.node._run(self.name, target, args, options)
        return result

    @twin
    def module(self, name: str, /, **options: Any) -> Steps[Module]:
        """Returns a module of the home, to run there. Raises `gvm.ModuleNotFound` if there is none of this name."""
        yield from self._check()
        return Module((yield self.node._core.module(self.name, _check.text("name", name), options)), self.node)

    @twin
    def spawn(self, module: str, /, **options: Any) -> Steps[Instance]:
        """Starts a live instance of a module there. It keeps its state between calls."""
        self.node._check()
        name = _check.text("module", module)
        return Instance((yield self.node._core.spawn(self.name, name, options)), self.node)

    @twin
    def discover(self) -> Steps[list[str]]:
        """Returns the names of all running nodes of the home, sorted. Every node returns the same names."""
        names: list[str] = yield self.node._core.discover()
        return names

    @twin
    def disconnect(self) -> Steps[None]:
        """Ends the connection."""
        yield from self.node._disconnect(self.name)

    def _check(self) -> Steps[None]:
        self.node._check()
        if self.name != self.node.name and self.name not in (yield self.node._core.list()):
            raise NodeNotConnected(
                f"not connected to node `{self.name}`", help=f"call `node.connect({self.name!r})` first"
            )

    @property
    def connected(self) -> bool:
        """Whether it is still connected."""
        return not self.node.closed and self.name in self.node.list()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and (other.node, other.name) == (self.node, self.name)

    def __hash__(self) -> int:
        return hash((self.node, self.name))

    def __reduce__(self) -> Any:
        raise TypeError("a gvm.Peer cannot be pickled or copied: it belongs to a node of this process")

    def __repr__(self) -> str:
        return f"<gvm.Peer {self.name} of {self.node.name}>"

    def _repr_html_(self) -> str:
        state = "connected" if self.connected else "not connected"
        return _html.table(f"peer {self.name}", ("", ""), [("of node", self.node.name), ("state", state)])
