"""What a private network consists of, and how it ends; and what killed processes left of theirs.

In: a daemon, nodes, processes, as they are started. Out: all of them ended, and the folder removed. Holds none of
the objects that a person has, so that those can go, and the network with them. Must not know: what a network is
used for.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from . import _gvm

if TYPE_CHECKING:
    from ._work import Work

LEAVE = 5.0
"""Seconds that a child may take to leave in order."""

_PREFIX = "gvm-"
_LOCK = "owner.lock"


class Lease:
    """Whoever has a node of a network has this: the network ends when nobody has it any more."""

    def __init__(self, parts: Parts) -> None:
        self._finalizer = weakref.finalize(self, parts.close_aside)
        self._finalizer.atexit = False

    def detach(self) -> None:
        """Leaves the end of the network to somebody else."""
        self._finalizer.detach()


class Parts:
    """The parts of one network. Clearing up can happen on any thread, once."""

    def __init__(self) -> None:
        sweep()
        self.lock = threading.Lock()
        self.closed = False
        self.folder, self._owner_lock = _folder()
        self.home = Path(self.folder, "home")
        self.owner = os.getpid()
        self.gpmd: _gvm.Gpmd | None = None
        self.nodes: list[_gvm.Ending] = []
        self.processes: list[subprocess.Popen[bytes]] = []
        self.work: weakref.ref[Work] | None = None

    def close_aside(self) -> None:
        """Closes where waiting harms nobody: finalizers run anywhere."""
        if os.getpid() == self.owner and not self.closed:
            threading.Thread(target=self.close, name="gvm-close").start()

    def close(self) -> None:
        """Ends everything at once. Doing so again changes nothing."""
        with self.lock:
            if self.closed or os.getpid() != self.owner:
                return
            self.closed = True
        work = self.work and self.work()
        if work:
            work.close()
        for process in self.processes:
            _farewell(process)
        for node in self.nodes:
            if not node.closed:
                node.shut_down(True).wait()
        for process in self.processes:
            _end(process)
        if self.gpmd is not None:
            self.gpmd.stop().wait()
        _remove(self.folder)
        os.close(self._owner_lock)

    _leave = close


def _folder() -> tuple[str, int]:
    """A new folder, and the lock in it that its owner holds while it lives."""
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    # A folder is never seen with a lock that nobody holds, unless its owner is gone.
    new = os.path.join(folder, f"{_LOCK}.new")
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(new, os.path.join(folder, _LOCK))
    return folder, lock


def sweep() -> None:
    """Removes the folders of networks whose owners were killed. The lock of one that lives is held."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # Of another kind, being made, or gone meanwhile.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Its owner lives.
            pass
        finally:
            os.close(lock)


def _remove(folder: str) -> None:
    """Removes the folder. A compilation that nobody waits for any more may put its last file there meanwhile."""
    end = time.monotonic() + LEAVE
    while os.path.exists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _farewell(process: subprocess.Popen[bytes]) -> None:
    """Asks a child to leave in order."""
    if process.stdin is None:
        return
    try:
        process.stdin.write(b"bye")
        process.stdin.close()
    except OSError:
        # It is gone already.
        pass


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LEAVE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
