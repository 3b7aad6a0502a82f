"""The types that ship: strict for mypy, true of what is there, and of use to a caller."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gvm

PACKAGE = Path(gvm.__file__).parent
CONFIG = Path(__file__).parents[1] / "pyproject.toml"


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run([sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_stubs_are_true(tmp_path: Path) -> None:
    assert (PACKAGE / "py.typed").exists()
    run("mypy.stubtest", "gvm", "--mypy-config-file", CONFIG, cwd=tmp_path)


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
    assert 'Revealed type is "gvm._nodes.Peer"' in said
    assert "list[str]" in said and "Future[Any]" in said
    (tmp_path / "misuse.py").write_text("import gvm\ngvm.LocalNetwork(nodes='2').node.connect(7)\n")
    wrong = subprocess.run([sys.executable, "-m", "mypy", "misuse.py"], cwd=tmp_path, capture_output=True, text=True)
    assert wrong.stdout.count("arg-type") == 2, wrong.stdout
