"""The example notebooks: run from top to bottom by a kernel of their own, and their pictures looked at."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
import numpy
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str) -> nbformat.NotebookNode:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(EXAMPLES)}}).execute()
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
    """What a cell printed, and what it showed."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return "".join(
        output.get("text", "") or "".join(output.get("data", {}).values()) for output in cell.outputs
    )


@pytest.fixture(scope="module")
def mandelbrot() -> nbformat.NotebookNode:
    return run("mandelbrot")


def test_the_picture(mandelbrot: nbformat.NotebookNode) -> None:
    [picture] = pictures(mandelbrot)
    assert picture.shape[0] > 200 and len(numpy.unique(picture.reshape(-1, 3), axis=0)) > 100
    # The set itself is black, the outside is not, and above is as below.
    inside = picture[(picture < 8).all(axis=2).nonzero()]
    assert 0.05 < len(inside) / (picture.shape[0] * picture.shape[1]) < 0.5
    drawn = (picture < 250).any(axis=2)
    rows, columns = numpy.flatnonzero(drawn.any(axis=1)), numpy.flatnonzero(drawn.any(axis=0))
    square = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    assert numpy.abs(square - square[::-1]).mean() < 12


def test_what_cells_show(mandelbrot: nbformat.NotebookNode) -> None:
    assert "local network" in said(mandelbrot, "net = gvm.LocalNetwork") and "<table>" in said(mandelbrot, "net = gvm")
    assert "node-4" in said(mandelbrot, "node.discover()")
    # The guest's words are in the cell that made the call, before its result.
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
    """A call that outlives its cell prints there, and not in the cell that happens to run."""
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


def test_speed() -> None:
    notebook = run("speed")
    [picture] = pictures(notebook)
    assert len(numpy.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert "live, other process" in said(notebook, "times = ") and "4 nodes" in said(notebook, "def picture")
