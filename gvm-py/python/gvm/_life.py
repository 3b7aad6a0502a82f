"""Closes objects before the interpreter exits.

In: nodes, pools and networks, when they are created. Out: all of them closed at exit, in the process that created
them and not in its forks. Must not know: the classes of these objects.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

from . import _gvm


class _Closable(Protocol):
    def _leave(self) -> None:
        """Ends at once, without waiting for running calls."""


_kept: weakref.WeakValueDictionary[int, _Closable] = weakref.WeakValueDictionary()
_made = 0


def keep(thing: _Closable) -> None:
    """Registers an object that must be closed when the interpreter exits, if the object still exists then."""
    global _made
    _made += 1
    _kept[_made] = thing


@atexit.register
def _close_all() -> None:
    # In reverse order of creation: pools before the networks that they use, networks before single nodes.
    for _, thing in sorted(_kept.items(), reverse=True):
        try:
            thing._leave()
        except Exception:
            # The interpreter exits: no caller is left to handle the error.
            pass


def _in_child() -> None:
    """Forgets everything in the child of a fork. The child has no threads of GVM, so only the parent closes."""
    _gvm.after_fork_in_child()
    _kept.clear()


os.register_at_fork(after_in_child=_in_child)
