"""Modules and live instances as Python objects.

In: what Rust knows about a module. Out: an object whose attributes are the exported functions. Must not know: how
functions are called.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _gvm, _html
from ._errors import Error, FunctionAmbiguous, FunctionNotFound, InstanceNotFound
from ._loop import Steps, background, twin, wait
from ._values import attribute

if TYPE_CHECKING:
    from ._gvm import Function
    from ._nodes import Node


def _last(interface: str) -> str:
    """Returns the attribute name of an interface: `iface` for `ns:pkg/iface@1.0.0`."""
    return attribute(interface.partition("@")[0].rpartition("/")[2])


class _Functions:
    """The base class of modules, instances and interfaces. Functions are attributes, found on first access."""

    def __init__(self, core: _gvm.Module, node: Node, interface: str | None) -> None:
        self._core = core
        self._node = node
        self._interface = interface

    def _exports(self) -> Iterator[tuple[str | None, str, str]]:
        for interface, name, signature in self._core.functions():
            if self._interface is None or interface == self._interface:
                yield interface, name, signature

    def _function(self, name: str) -> Function:
        """Returns a function by its Python name or by its WIT name."""
        wit = {wit for _, wit, _ in self._exports() if attribute(wit) == name}
        # The function keeps the node alive, and with it the private network of the node.
        return self._core.function(self._interface, wit.pop() if len(wit) == 1 else name, self._node)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        try:
            found = self._find(name)
        except (FunctionNotFound, FunctionAmbiguous) as error:
            error.name, error.obj = name, self
            raise
        self.__dict__[name] = found
        return found

    def _find(self, name: str) -> Any:
        return self._function(name)

    def __getitem__(self, name: str) -> Any:
        return self._function(name)

    def __reduce__(self) -> Any:
        kind = type(self).__name__
        raise TypeError(f"a gvm.{kind} cannot be pickled or copied: it belongs to a node of this process")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(attribute(name) for _, name, _ in self._exports())})

    def _ipython_key_completions_(self) -> list[str]:
        return [name for _, name, _ in self._exports()]

    def _title(self) -> str:
        place = self._core.place
        return self._core.noun if place is None else f"{self._core.noun} on {place}"

    def _list(self) -> Iterator[tuple[str, str]]:
        for interface, name, signature in self._exports():
            front = "" if interface is None or self._interface else f"{interface}."
            yield _gvm.inert(f"{front}{name}"), _gvm.inert(signature)

    def _text(self, title: str) -> str:
        return "\n".join([f"<{title}>", *(f"  {name}: {signature}" for name, signature in self._list())])

    def _table(self, title: str) -> str:
        return _html.table(title, ("function", "type"), self._list())


class Interface(_Functions):
    """An exported interface; its functions are attributes: `module.iface.function(…)`."""

    def __repr__(self) -> str:
        return self._text(_gvm.inert(f"interface {self._interface} of {self._title()}"))

    def _repr_html_(self) -> str:
        return self._table(_gvm.inert(f"{self._interface} of {self._title()}"))


class Module(_Functions):
    """A module of the home, run on one node. Its attributes are the exported functions, in snake_case.

    Each call runs in a fresh instance. Use `module["name"]` if a function has the same name as an attribute of this
    class, and for the full name of an interface. `module()` runs the module's main.
    """

    def __init__(self, core: _gvm.Module, node: Node) -> None:
        super().__init__(core, node, None)

    def _interfaces(self) -> list[str]:
        return list(dict.fromkeys(interface for interface, _, _ in self._exports() if interface))

    def _find(self, name: str) -> Any:
        if not any(interface is None and attribute(wit) == name for interface, wit, _ in self._exports()):
            match [interface for interface in self._interfaces() if _last(interface) == name]:
                case []:
                    pass
                case [interface]:
                    return Interface(self._core, self._node, interface)
                case several:
                    lines = "\n".join(f'  {self._core.noun}["{interface}"]' for interface in several)
                    raise FunctionAmbiguous(
                        f"several interfaces have the name `{name}`", context=lines, help="use one of the full names"
                    )
        return self._function(name)

    def __getitem__(self, name: str) -> Any:
        """Returns a function or an interface by its WIT name."""
        for interface in self._interfaces():
            if name in (interface, interface.partition("@")[0]):
                return Interface(self._core, self._node, interface)
        return self._find(attribute(name)) if name == attribute(name) else self._function(name)

    def __call__(self, *argv: str, **options: Any) -> None:
        """Runs the module's main with these arguments."""
        wait(self._node._main(self._core.place, self._core.instance or self._core.noun, argv, options))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *map(_last, self._interfaces())})

    def _ipython_key_completions_(self) -> list[str]:
        return [*super()._ipython_key_completions_(), *self._interfaces()]

    @property
    def name(self) -> str:
        """The module's name, with the version if one was given."""
        return self._core.noun

    @property
    def wit(self) -> str | None:
        """The module's world as WIT; None for a core module."""
        return self._core.wit

    @property
    def sha256(self) -> str:
        """The hash of the module's bytes."""
        return self._core.sha256

    def __repr__(self) -> str:
        return self._text(f"module {self._title()}")

    def _repr_html_(self) -> str:
        return self._table(f"module {self._title()}")


class Instance(Module):
    """A live instance of a module. Its calls run one after another and share state.

    It ends with `close()`, at the end of its `with` block, with the first call that traps in it, or with its node.
    """

    def __init__(self, core: _gvm.Module, node: Node) -> None:
        super().__init__(core, node)
        self._finalizer = weakref.finalize(self, _let_go, node._core, self.id)
        self._finalizer.atexit = False
        core.keep()

    @property
    def id(self) -> str:
        """The name that the instance has on its node: `i1`."""
        return self._core.instance or ""

    @twin
    def close(self) -> Steps[None]:
        """Drops the instance. Has no effect the second time."""
        if self._finalizer.detach() and not self._node.closed:
            yield self._node._core.drop_instance(self.id)

    def __enter__(self) -> Instance:
        if not self._finalizer.alive:
            raise InstanceNotFound(
                f"the live instance `{self.id}` is closed", help="make a new one with `node.spawn`"
            )
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.close()
        except Error:
            # It ended before: with its node, or with a call that trapped.
            pass

    async def __aenter__(self) -> Instance:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        try:
            await self.close.aio()
        except Error:
            pass

    def __repr__(self) -> str:
        return self._text(f"instance {self.id} of {self._title()}")

    def _repr_html_(self) -> str:
        return self._table(f"instance {self.id} of {self._title()}")


def _let_go(core: _gvm.Node, name: str) -> None:
    """Drops an instance that nothing refers to any more. Ignores the error if the instance had ended."""
    try:
        background(core.drop_instance(name))
    except Error:
        # Its node is closed too.
        pass
