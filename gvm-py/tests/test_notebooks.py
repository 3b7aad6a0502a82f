"""The example notebooks: each runs from top to bottom in its own kernel, and its pictures are checked."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy
import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from PIL import Image

from conftest import WAITS, busy, soon

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, folder: Path) -> nbformat.NotebookNode:
    """Runs a notebook in an empty folder, where every warning is an error."""
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell("import warnings; warnings.simplefilter('error')"))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            assert output.get("name") != "stderr" or "Warning" not in output.text, output.text
    assert [*folder.iterdir()] == []
    return notebook


def pictures(notebook: nbformat.NotebookNode) -> list[numpy.ndarray]:
    found = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    return [numpy.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")) for png in found]


def said(notebook: nbformat.NotebookNode, source: str) -> str:
    """Returns what a cell printed and displayed."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return "".join(
        output.get("text", "") or "".join(output.get("data", {}).values()) for output in cell.outputs
    )


@pytest.fixture(scope="module")
def mandelbrot(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    return run("mandelbrot", tmp_path_factory.mktemp("empty"))


def test_the_picture(mandelbrot: nbformat.NotebookNode) -> None:
    [picture] = pictures(mandelbrot)
    assert picture.shape[0] > 200 and len(numpy.unique(picture.reshape(-1, 3), axis=0)) > 100
    # The set is black, the outside is not, and the picture is symmetric.
    inside = picture[(picture < 8).all(axis=2).nonzero()]
    assert 0.05 < len(inside) / (picture.shape[0] * picture.shape[1]) < 0.5
    drawn = (picture < 250).any(axis=2)
    rows, columns = numpy.flatnonzero(drawn.any(axis=1)), numpy.flatnonzero(drawn.any(axis=0))
    square = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    assert numpy.abs(square - square[::-1]).mean() < 12


def test_what_cells_show(mandelbrot: nbformat.NotebookNode) -> None:
    shown = said(mandelbrot, "net = gvm.LocalNetwork")
    assert "local network" in shown and "<table>" in shown
    assert "node-4" in said(mandelbrot, "node.discover()")
    # The guest's output is in the cell that made the call, before its result.
    assert said(mandelbrot, "math.add(34, 34)") == "Adding Numbers From Wasm...\n68"
    assert "tile(t: record { left: f64" in said(mandelbrot, "help(mandel.tile)")
    assert said(mandelbrot, "len(mandel.tile") == "(4096, 64)"
    assert "64/64" in said(mandelbrot, "progress=True")
    shown = said(mandelbrot, "net.pool")
    assert all(f"node-{n}" in shown for n in range(1, 5))


LATE = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "late words\\n")
  (func (export "late") (param $rounds i32) (result i32)
    (loop $again (br_if $again (local.tee $rounds (i32.sub (local.get $rounds) (i32.const 1)))))
    (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 11))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"""


@pytest.mark.parametrize(
    "call", ["later = asyncio.create_task(late.late.aio(600000000))", "later = net.submit('late.late', 600000000)"]
)
def test_output_belongs_to_the_cell_that_called(call: str) -> None:
    """A call that outlives its cell prints in that cell, and not in the cell that runs meanwhile."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        setting = f"import asyncio, gvm; net = gvm.LocalNetwork(nodes=1); net.upload('late', '1.0.0', {LATE!r}.encode())"
        assert client.execute_interactive(setting, timeout=60)["content"]["status"] == "ok"
        first = client.execute(f"late = net.node.module('late'); {call}; print('begun')")
        second = client.execute("while not later.done(): await asyncio.sleep(0.01)\nprint('waited')")
        words: dict[str, str] = {}
        idle = 0
        while idle < 2:
            message = client.get_iopub_msg(timeout=60)
            parent = message["parent_header"].get("msg_id", "")
            if message["msg_type"] == "stream":
                words[parent] = words.get(parent, "") + message["content"]["text"]
            assert message["msg_type"] != "error", message["content"]
            idle += message["msg_type"] == "status" and message["content"]["execution_state"] == "idle" and (
                parent in (first, second)
            )
        assert words == {first: "begun\nlate words\n", second: "waited\n"}
    finally:
        client.stop_channels()
        manager.shutdown_kernel()


def test_speed(tmp_path: Path) -> None:
    notebook = run("speed", tmp_path)
    [picture] = pictures(notebook)
    assert len(numpy.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert "live, other process" in said(notebook, "times = ") and "4 nodes" in said(notebook, "def picture")


@pytest.fixture(scope="module")
def kernel() -> Iterator[BlockingKernelClient]:
    """A kernel with a network, whose guests print `running`."""
    manager, client = start_new_kernel(kernel_name="python3")
    client.manager = manager
    setting = (
        "import asyncio, gvm; net = gvm.LocalNetwork(nodes=2); "
        f"net.upload('waits', '1.0.0', {WAITS!r}); waits = net.node.module('waits'); "
        "there = net.node.connect('node-2').module('waits'); pool = gvm.Pool(net.nodes[:1], in_flight=1)"
    )
    assert client.execute_interactive(setting, timeout=60)["content"]["status"] == "ok"
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


@pytest.mark.parametrize(
    "call",
    [
        "await waits.for_ever.aio(1)", "await there.for_ever.aio(1)", "await net.node.run.aio('node-2', 'waits.for-ever', 1)",
        "await asyncio.gather(waits.for_ever.aio(1), there.for_ever.aio(1))",
        "await asyncio.create_task(waits.for_ever.aio(1))", "await pool.submit.aio('waits.for-ever', 1)",
        "await asyncio.wrap_future(pool.submit('waits.for-ever', 1))", "waits.for_ever(1)", "there.for_ever(1)",
        "list(pool.map('waits.for-ever', [1, 2]))", "list(pool.starmap('waits.for-ever', [(1,)] * 3))",
        "async with gvm.Pool(net.nodes[:1]) as inner: await inner.submit.aio('waits.for-ever', 1)",
        "with gvm.Pool(net.nodes[:1]) as inner: inner.submit('waits.for-ever', 1).result()",
    ],
)
def test_the_stop_button(kernel: BlockingKernelClient, call: str) -> None:
    """The cell ends, and the guest stops."""
    took: list[float] = []
    # The time that the kernel takes to show the error does not count.
    cell = f"import time\ntry:\n    {call}\nfinally:\n    print('ended', time.monotonic(), flush=True)"
    while len(took) < 6 and not (took and took[-1] < 0.2):
        moments: dict[str, float] = {}

        def hook(message: dict[str, Any]) -> None:
            text = message["content"]["text"] if message["msg_type"] == "stream" else ""
            if "running" in text and not moments:
                moments["interrupted"] = time.monotonic()
                kernel.manager.interrupt_kernel()
            if "ended" in text:
                moments["ended"] = float(text.split("ended")[1].split()[0])

        reply = kernel.execute_interactive(cell, timeout=20, output_hook=hook)
        took.append(moments["ended"] - moments["interrupted"])
        assert reply["content"]["status"] == "error"
        assert reply["content"]["ename"] in ("KeyboardInterrupt", "CancelledError"), reply["content"]
    # The limit is 200 ms, but other programs on this machine may delay some of the attempts.
    assert min(took) < 0.2 and max(took) < 3, took
    free = "assert pool.submit('waits.one').result(5) == 1 and not pool._work.running and net.node.discover()"
    assert kernel.execute_interactive(free, timeout=20)["content"]["status"] == "ok"
    pid = kernel.manager.provisioner.pid
    soon(lambda: not busy(pid))


def test_the_stop_button_is_left_as_it_was(kernel: BlockingKernelClient) -> None:
    """The package leaves the signal handlers of the kernel unchanged."""
    text = (
        "import signal\nbefore = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)\n"
        "signal.set_wakeup_fd(before[1])\nassert await waits.one.aio() == 1\n"
        "after = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)\nsignal.set_wakeup_fd(after[1])\n"
        "assert before == after, (before, after)"
    )
    reply = kernel.execute_interactive(text, timeout=20)
    assert reply["content"]["status"] == "ok", reply["content"]
