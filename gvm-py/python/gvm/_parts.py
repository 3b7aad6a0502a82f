"""The parts of a private network and how they end, and the folders that killed processes left behind.

In: a daemon, nodes and processes, when they start. Out: all of them ended, and the folder removed. It refers to none
of the objects that a caller holds, so that these can be collected and the network then closes. Must not know: the
classes `Node` and `LocalNetwork`.
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
"""Seconds that a child process has to end in order."""

_PREFIX = "gvm-"
_LOCK = "owner.lock"


class Lease:
    """Keeps a network alive. Every node of the network refers to it, and the network closes when it is collected."""

    def __init__(self, parts: Parts) -> None:
        self._finalizer = weakref.finalize(self, parts.close_aside)
        self._finalizer.atexit = False

    def detach(self) -> None:
        """Leaves it to the caller to close the network."""
        self._finalizer.detach()


class Parts:
    """The parts of one network. Any thread may close them; they are closed once."""

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
        """Closes on a new thread, because a finalizer may run on a thread that must not wait."""
        if os.getpid() == self.owner and not self.closed:
            threading.Thread(target=self.close, name="gvm-close").start()

    def close(self) -> None:
        """Ends everything at once. Has no effect the second time."""
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
    """Makes a new folder with a lock file in it. The owner holds the lock while it runs."""
    folder = tempfile.mkdtemp(prefix=_PREFIX)
    # The lock is taken before the file gets its name, so a free lock means that the owner is gone.
    new = os.path.join(folder, f"{_LOCK}.new")
    lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(new, os.path.join(folder, _LOCK))
    return folder, lock


def sweep() -> None:
    """Removes the folders of networks whose owners were killed. An owner that still runs holds its lock."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            # It is not ours, is being made, or was removed meanwhile.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Its owner still runs.
            pass
        finally:
            os.close(lock)


def _remove(folder: str) -> None:
    """Removes the folder. Tries again, because a compilation that still ends may write its last file meanwhile."""
    end = time.monotonic() + LEAVE
    while os.path.exists(folder) and time.monotonic() < end:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.01)


def _farewell(process: subprocess.Popen[bytes]) -> None:
    """Asks a child process to end in order."""
    if process.stdin is None:
        return
    try:
        process.stdin.write(b"bye")
        process.stdin.close()
    except OSError:
        # It has ended already.
        pass


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(LEAVE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
