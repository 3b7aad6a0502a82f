"""Fixtures and helpers of the tests: private networks with modules. No test touches the home of the user."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gvm
import pytest

import components

REPOSITORY = Path(__file__).parents[2]
WAT = REPOSITORY / "tests/guests/wat"


@pytest.fixture(scope="session", autouse=True)
def no_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Makes the default home an empty one."""
    for name in ("GPMD_ADDRESS", "RUST_LOG"):
        os.environ.pop(name, None)
    os.environ["GHOST_HOME"] = str(tmp_path_factory.mktemp("nobody") / "home")


@pytest.fixture(scope="session")
def values_wasm() -> Path:
    """Builds the guest that echoes values of every type, in the folder that the Rust tests use."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "tmp/guests"
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2", "-p", "values",
         "--target-dir", target],
        cwd=REPOSITORY / "tests/guests",
        check=True,
    )
    return target / "wasm32-wasip2/release/values.wasm"


@pytest.fixture(scope="session")
def net(values_wasm: Path) -> Iterator[gvm.LocalNetwork]:
    """Three nodes in this process. The first is connected to the second."""
    with gvm.LocalNetwork(nodes=3) as net:
        stock(net, values_wasm)
        net.nodes[0].connect("node-2")
        yield net


@pytest.fixture(scope="session")
def node(net: gvm.LocalNetwork) -> gvm.Node:
    return net.node


@pytest.fixture(scope="session")
def peer(net: gvm.LocalNetwork) -> gvm.Peer:
    return net.node.connect("node-2")


@pytest.fixture(params=["here", "there"])
def place(request: pytest.FixtureRequest, node: gvm.Node, peer: gvm.Peer) -> gvm.Node | gvm.Peer:
    """The node itself, or a connected one."""
    return node if request.param == "here" else peer


def stock(net: gvm.LocalNetwork, values: Path | None = None) -> None:
    """Uploads the modules that tests call."""
    net.upload("math", "1.0.0", REPOSITORY / "gvm-host/samples/math.wat")
    for name in ("counter", "spin", "numbers", "leave"):
        net.upload(name, "1.0.0", WAT / f"{name}.wat")
    net.upload("lists", "1.0.0", components.lists())
    net.upload("slow", "1.0.0", SLOW)
    net.upload("waits", "1.0.0", WAITS)
    net.upload("sleeps", "1.0.0", SLEEPS)
    if values is not None:
        net.upload("values", "1.0.0", values)


SLOW = b"""(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "work") (param $n i32) (param $rounds i32) (result i32)
    (loop $again
      (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (local.get $n))
  (func (export "trap-odd") (param i32) (result i32)
    (if (i32.and (local.get 0) (i32.const 1)) (then unreachable)) (local.get 0)))"""


WAITS = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "running\\n")
  (func (export "one") (result i32) (i32.const 1))
  (func (export "for-ever") (param i32)
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (loop $again (br $again))))"""
"""A guest that prints `running`, and then runs forever."""


SLEEPS = b"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "running\\n")
  (func (export "for-ever") (param i32)
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const 3600000000000))
    (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 512)))))"""
"""A guest that prints `running`, and then sleeps for an hour."""


class Heard:
    """An output function that counts the guests that have printed `running`."""

    def __init__(self) -> None:
        self.count = 0
        self._more = threading.Condition()

    def __call__(self, text: str) -> None:
        with self._more:
            self.count += text.count("running")
            self._more.notify_all()

    def wait(self, count: int) -> None:
        with self._more:
            assert self._more.wait_for(lambda: self.count >= count, 30), f"{self.count} of {count} run"


def soon(condition: Callable[[], object], within: float = 20) -> None:
    """Waits until a condition is true."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, f"the condition is not true within {within} s"
        time.sleep(0.005)


def busy(pid: int | str = "self") -> bool:
    """Returns whether a process uses the processor, by its time in a span of 0.1 s."""

    def spent() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = spent()
    time.sleep(0.1)
    return (spent() - before) / os.sysconf("SC_CLK_TCK") > 0.03


def python(code: str, *args: str, **options: object) -> subprocess.Popen[str]:
    """Starts another Python process that runs this code."""
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **(pipes | options))  # type: ignore[call-overload, no-any-return]


def ended(process: subprocess.Popen[str], within: float = 60) -> tuple[int, str, str]:
    """Returns status, output and errors of a process that must end by itself."""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the process does not end; it printed:\n{out}\n{err}") from None
    return process.returncode, out, err
