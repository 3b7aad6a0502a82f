"""The types of the package: strict for mypy, equal to the code at run time, and useful to a caller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gvm
import pytest

from test_docs import DOCUMENTS, blocks_of
from test_methods import TWINS

PACKAGE = Path(gvm.__file__).parent
CONFIG = Path(__file__).parents[1] / "pyproject.toml"


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_stubs_are_true(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    # mypy sees a method that is taken from its class without parameter names, but these have names.
    known = tmp_path / "known"
    known.write_text("".join(f"{kind.__module__}.{kind.__name__}.{name}\n" for kind, name in TWINS))
    words = ("--allowlist", known, "--ignore-unused-allowlist", "--mypy-config-file", CONFIG)
    run("mypy.stubtest", "gvm", *words, cwd=tmp_path)


def test_types_are_of_use(tmp_path: Path) -> None:
    run("mypy", "--config-file", CONFIG, "-p", "gvm", cwd=tmp_path)
    (tmp_path / "use.py").write_text(
        "import asyncio, gvm\n"
        "net = gvm.LocalNetwork(nodes=2)\n"
        "reveal_type(net.node.connect('x'))\n"
        "async def main() -> None:\n"
        "    reveal_type(await net.node.discover.aio())\n"
        "reveal_type(net.submit('a.b', 1))\n"
    )
    said = run("mypy", "--strict", "use.py", cwd=tmp_path)
    assert 'Revealed type is "gvm._peers.Peer"' in said
    assert "list[str]" in said and "Future[Any]" in said
    (tmp_path / "misuse.py").write_text("import gvm\ngvm.LocalNetwork(nodes='2')\ngvm.LocalNetwork().node.connect(7)\n")
    wrong = subprocess.run([sys.executable, "-m", "mypy", "misuse.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "misuse.py:2: error" in wrong.stdout and "misuse.py:3: error" in wrong.stdout, wrong.stdout


NETWORKS = """
import gvm

near, far = gvm.LocalNetwork(), gvm.LocalNetwork(2, processes=True)
peer: gvm.Peer = near.nodes[0].connect("node-2")
also: gvm.Peer = far.nodes[0]
either: gvm.Node | gvm.Peer = gvm.LocalNetwork(processes=bool(peer)).nodes[0]


def annotated(net: gvm.LocalNetwork) -> gvm.Future[int]:
    return net.submit("math.add", 1, 2)


async def main() -> list[str]:
    async with gvm.LocalNetwork() as net, gvm.Pool(net.nodes) as pool:
        await pool.submit.aio("math.add", 1, 2)
        gvm.Node.connect(net.node, "node-2").run("math.add", 1, 2)
        results: gvm.Results = net.map("math.add", [1], [2])
        results.close()
        annotated(near)
        return await net.nodes[0].discover.aio()
"""

WRONG = """
import gvm

gvm.LocalNetwork(processes=True).nodes[0].connect("node-2")
gvm.LocalNetwork("2")
gvm.Node.connect("x")
gvm.Pool(["node-1"])
"""


@pytest.fixture
def blocks(tmp_path: Path) -> Path:
    """A folder with every block of Python of the documents, each in its own file."""
    for document in DOCUMENTS:
        for place, block in enumerate(blocks_of(document)):
            name = document.replace("/", "_").replace("-", "_").removesuffix(".md")
            (tmp_path / f"{name}_{place}.py").write_text(block)
    (tmp_path / "networks.py").write_text(NETWORKS)
    assert len([*tmp_path.iterdir()]) >= 7
    return tmp_path


def test_documents_are_typed(blocks: Path) -> None:
    run("mypy", "--strict", ".", cwd=blocks)
    (blocks / "wrong.py").write_text(WRONG)
    wrong = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "wrong.py"], cwd=blocks, capture_output=True, text=True
    )
    for line in (4, 5, 6, 7):
        assert f"wrong.py:{line}: error" in wrong.stdout, wrong.stdout


def test_documents_are_typed_for_pyright_too(blocks: Path) -> None:
    there = subprocess.run([sys.executable, "-m", "pyright", "--version"], capture_output=True, text=True)
    if there.returncode != 0:
        pytest.skip(f"pyright cannot be installed here: {there.stderr[-200:]}")
    run("pyright", "--pythonpath", sys.executable, ".", cwd=blocks)
    (blocks / "wrong.py").write_text(WRONG)
    wrong = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "wrong.py"],
        cwd=blocks, capture_output=True, text=True,
    )
    for line in (4, 5, 6, 7):
        assert f"wrong.py:{line}:" in wrong.stdout, wrong.stdout
