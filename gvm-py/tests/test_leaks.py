"""Networks that nothing refers to close by themselves, and the folders of killed processes are removed."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gvm
import pytest

from conftest import Heard, ended, python, soon, stock
from test_interrupts import HERE, SETUP


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the networks of a test make their folders."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def gone(net: gvm.LocalNetwork) -> Callable[[], bool]:
    """Returns a check whether a network has ended: its folder, its processes, its nodes."""
    home, processes, nodes = net.home, net.processes, net._parts.nodes

    def check() -> bool:
        return (
            not home.parent.exists()
            and all(process.poll() is not None for process in processes)
            and all(node.closed for node in nodes)
        )

    return check


@pytest.fixture(params=[False, True])
def processes(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def no_cycles() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_cycles")
def test_it_goes_with_its_last_name(processes: bool) -> None:
    """It closes at once, without the garbage collector, which is off here."""
    net = gvm.LocalNetwork(nodes=2, processes=processes)
    stock(net)
    net.pool, repr(net), net._repr_html_()
    assert net.submit("slow.add", 1, 2).result(20) == 3
    assert list(net.map("slow.add", range(9), range(9))) == [2 * n for n in range(9)]
    node, is_gone, alive = net.node, gone(net), weakref.ref(net)
    math = node.module("slow")
    del net
    assert alive() is None and not is_gone() and math.add(1, 2) == 3
    del node
    # A function keeps its node alive, and the node its network.
    add = math.add
    del math
    assert not is_gone() and add(1, 2) == 3
    del add
    soon(is_gone)


def test_a_cell_that_is_run_again(processes: bool) -> None:
    is_gone = None
    for _ in range(3):
        net = gvm.LocalNetwork(nodes=2, processes=processes)
        if is_gone is not None:
            soon(is_gone)
        is_gone = gone(net)
    net.close()
    assert is_gone is not None and is_gone()


def test_it_goes_while_guests_run(processes: bool) -> None:
    heard = Heard()
    net = gvm.LocalNetwork(nodes=2, processes=processes, stdout=heard)
    stock(net)
    for n in range(4):
        net.submit("waits.for-ever", n)
    heard.wait(4)
    is_gone = gone(net)
    del net
    gc.collect()
    soon(is_gone)


def test_whoever_has_a_future_has_the_network() -> None:
    def begin() -> gvm.Future[int]:
        net = gvm.LocalNetwork(nodes=1)
        stock(net)
        return net.submit("slow.work", 7, 10_000_000)

    future = begin()
    gc.collect()
    assert future.result(20) == 7


@pytest.mark.parametrize("where", ["network", "module", "function", "pool", "node", "run"])
def test_outputs_that_lead_back_to_the_network(where: str) -> None:
    """A function that receives output and refers to the network keeps neither alive."""

    class Screen:
        def __init__(self) -> None:
            self.said: list[str] = []
            option: Any = {"stdout": self.show}
            self.net = gvm.LocalNetwork(nodes=2, **(option if where == "network" else {}))
            stock(self.net)
            node = self.net.node
            match where:
                case "module":
                    self.module = node.module("math", **option)
                    self.module.add(1, 2)
                case "function":
                    self.function = node.module("math").add.options(**option)
                    self.function(1, 2)
                case "pool":
                    self.pool = gvm.Pool(self.net.nodes, **option)
                    self.pool.submit("math.add", 1, 2).result(20)
                case "node":
                    self.other = gvm.Node("other", home=self.net.home, **option)
                    self.other.run(None, "math.add", 1, 2)
                case "run":
                    node.run(None, "math.add", 1, 2, **option)
                case _:
                    node.run(None, "math.add", 1, 2)
            assert self.said == ["Adding Numbers From Wasm...\n"]

        def show(self, text: str) -> None:
            self.said.append(text)

    screen = Screen()
    is_gone, alive = gone(screen.net), weakref.ref(screen)
    gc.collect()
    assert not is_gone() and screen.net.node.discover()
    del screen
    gc.collect()
    assert alive() is None
    soon(is_gone)


def test_live_instances_and_events() -> None:
    net = gvm.LocalNetwork(nodes=2)
    stock(net)
    live, events = net.node.connect("node-2").spawn("counter"), net.node.events()
    is_gone = gone(net)
    del net
    gc.collect()
    assert live.increment() == 1 and not is_gone()
    del live
    gc.collect()
    soon(is_gone)
    assert [event.kind for event in events if event.kind not in ("connected", "leaving")] in ([], ["down"])


LIVES = """
    net = gvm.LocalNetwork(nodes=2, processes=sys.argv[2] == "True")
    stock(net)
    print(net.home, *(child.pid for child in net.processes), flush=True)
    sys.stdin.readline()
    assert net.submit("slow.add", 1, 2).result(20) == 3
    net.close()
"""


@pytest.mark.parametrize("kill", ["parent", "all"])
def test_what_was_killed_is_swept(folder: Path, processes: bool, kill: str) -> None:
    """The folders of networks that still run are not removed."""
    setting = {**os.environ, "TMPDIR": str(folder)}
    killed, living = (python(SETUP + LIVES, HERE, str(processes), env=setting) for _ in range(2))
    said = []
    for process in (killed, living):
        assert process.stdout is not None
        said.append(process.stdout.readline().split())
    (dead, *children), (alive, *_) = said
    for pid in children if kill == "all" else []:
        os.kill(int(pid), signal.SIGKILL)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    foreign = folder / "gvm-somebody"
    foreign.mkdir()
    with gvm.LocalNetwork(nodes=1) as net:
        soon(lambda: not Path(dead).parent.exists())
        assert Path(alive).exists() and net.home.exists() and foreign.exists()
    status, out, err = finished(living)
    assert status == 0, err
    soon(lambda: [*folder.iterdir()] == [foreign])


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    assert process.stdin is not None
    out, err = process.communicate("on\n", timeout=60)
    return process.returncode, out, err


def test_a_fork_keeps_the_folder(folder: Path) -> None:
    """Neither the child of a fork nor the parent's next network removes the parent's folder."""
    status, out, err = ended(python(SETUP + """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    net = gvm.LocalNetwork(nodes=1)
    child = os.fork()
    if child == 0:
        del net
        sys.exit(0)
    os.waitpid(child, 0)
    with gvm.LocalNetwork(nodes=1):
        assert net.home.exists() and net.node.discover() == ["node-1"]
    net.close()
    print("well")
    """, HERE, env={**os.environ, "TMPDIR": str(folder)}))
    assert (status, out) == (0, "well\n"), err
    assert [*folder.iterdir()] == []
