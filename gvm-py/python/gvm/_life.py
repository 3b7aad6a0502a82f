"""What must end before the process does, and what a fork must not touch.

In: nodes, pools and networks, as they are made. Out: all of them closed when the interpreter leaves, in the
process that made them. Must not know: what they are.
"""

from __future__ import annotations

import atexit
import os
import weakref
from typing import Protocol

from . import _gvm


class _Closable(Protocol):
    def _leave(self) -> None:
        """Ends at once, waiting for nothing that runs."""


_kept: weakref.WeakValueDictionary[int, _Closable] = weakref.WeakValueDictionary()
_made = 0


def keep(thing: _Closable) -> None:
    """Has this closed when the interpreter leaves, if it lives that long."""
    global _made
    _made += 1
    _kept[_made] = thing


@atexit.register
def _close_all() -> None:
    # The last one made first: pools before the networks they run on, networks before single nodes.
    for _, thing in sorted(_kept.items(), reverse=True):
        try:
            thing._leave()
        except Exception:
            # Nothing more can be done about it, and nobody is left to be told.
            pass


def _in_child() -> None:
    """A fork's child has none of the threads: it leaves everything to its parent."""
    _gvm.after_fork_in_child()
    _kept.clear()


os.register_at_fork(after_in_child=_in_child)
