"""Checks of targets, names of nodes, and sources of modules.

In: targets with their arguments, nodes or their names, the bytes or paths of modules. Out: the same values, checked,
and the kind of call that a target is. Must not know: the classes of nodes.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from . import _check, _gvm
from ._errors import BadArguments

Target = str
"""What to call, in the syntax of the REPL: `math.add`, `math@1.0.0.add`, `math."ns:pkg/iface".add`. `math` alone is
the module's main. `math.add(1, 2)` contains its arguments."""

_kind = functools.lru_cache(maxsize=1024)(_gvm.target_kind)


def check_target(target: Any, args: tuple[Any, ...]) -> str:
    """Returns the kind of call: `main`, `function`, or `text` if the target contains its arguments."""
    if not isinstance(target, str):
        _check.refuse("target", "the name of a function, such as 'math.add'", target)
    kind = _kind(target)
    if kind == "text" and args:
        raise BadArguments(
            f"target: {target!r} contains its arguments, but more arguments were given",
            help="put the arguments into the target, or pass them after it",
        )
    if kind == "main":
        for place, word in enumerate(args):
            if not isinstance(word, str):
                _check.refuse(f"args[{place}]", f"a str for the main of `{target}`", word)
    return kind


def name_of(parameter: str, node: Any) -> str:
    """Returns the name of a node. `node` is the node itself or its name."""
    name = getattr(node, "name", node)
    return name if isinstance(name, str) else _check.refuse(parameter, "a node, or its name", node)


def read(source: str | os.PathLike[str] | bytes) -> bytes:
    """Returns the bytes of a module, which are given or read from a path."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        _check.refuse("source", "a path, or the module's bytes", source)
    return Path(source).read_bytes()
