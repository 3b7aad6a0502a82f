"""What is called, and where: as a person writes it.

In: targets with their arguments, names of nodes, modules' bytes or paths. Out: the same checked, and what kind of
call a target is. Must not know: nodes.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

from . import _check, _gvm
from ._errors import BadArguments

Target = str
"""What is called, as the REPL has it: `math.add`, `math@1.0.0.add`, `math."ns:pkg/iface".add`; `math` alone is
the module's main; `math.add(1, 2)` has its arguments with it."""

_kind = functools.lru_cache(maxsize=1024)(_gvm.target_kind)


def check_target(target: Any, args: tuple[Any, ...]) -> str:
    """What kind of call this is: `main`, `function`, or `text` where the arguments stand in the target."""
    if not isinstance(target, str):
        _check.refuse("target", "a function by name, such as 'math.add'", target)
    kind = _kind(target)
    if kind == "text" and args:
        raise BadArguments(f"target: {target!r} has its arguments already, and {len(args)} more were given")
    if kind == "main":
        for place, word in enumerate(args):
            if not isinstance(word, str):
                _check.refuse(f"args[{place}]", f"a str, as the main of `{target}` takes", word)
    return kind


def name_of(parameter: str, node: Any) -> str:
    """The name of a node, which is given itself or by its name."""
    name = getattr(node, "name", node)
    return name if isinstance(name, str) else _check.refuse(parameter, "a node, or its name", node)


def read(source: str | os.PathLike[str] | bytes) -> bytes:
    """A module's bytes, from wherever they are."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if not isinstance(source, (str, os.PathLike)):
        _check.refuse("source", "a path, or the module's bytes", source)
    return Path(source).read_bytes()
