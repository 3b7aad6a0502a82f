"""Examples in the documentation: each block of Python in `docs/python.md` and in the READMEs runs from top to bottom,
and each example in a docstring prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil
import re
from pathlib import Path

import gvm
import pytest

from conftest import REPOSITORY, ended, python

DOCUMENTS = ["docs/python.md", "gvm-py/README.md", "README.md"]

SETTING = """
import os, sys, threading
import gvm
# What the reader has: a home with a gpmd, the modules, and another node.
net = gvm.LocalNetwork(nodes=1)
os.environ["GHOST_HOME"] = str(net.home)
net.upload("math", "1.0.0", "math.wasm")
net.upload("counter", "1.0.0", "counter.wat")
net.upload("mandel", "1.0.0", "mandel.wat")
other = gvm.Node("node-8399", home=net.home)
"""


def blocks_of(document: str) -> list[str]:
    """Returns the blocks of Python in a document."""
    text = (REPOSITORY / document).read_text()
    found = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.mark.parametrize("document", ["README.md", "gvm-py/README.md"])
@pytest.mark.parametrize("here", [True, False])
def test_a_readme_can_be_pasted(document: str, here: bool, tmp_path: Path) -> None:
    """The block runs unchanged in a plain Python, in the checkout or elsewhere, without a warning."""
    [block] = blocks_of(document)
    home = {**os.environ, "HOME": str(tmp_path), "GHOST_HOME": "", "PYTHONWARNINGS": "error"}
    status, out, err = ended(python(block, cwd=REPOSITORY if here else tmp_path, env=home))
    assert (status, err) == (0, ""), err


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents(document: str, tmp_path: Path) -> None:
    blocks = blocks_of(document)
    for name, source in {
        "math.wasm": "gvm-host/samples/math.wat", "counter.wat": "tests/guests/wat/counter.wat",
        "mandel.wat": "gvm-py/examples/mandel.wat",
    }.items():
        (tmp_path / name).write_bytes((REPOSITORY / source).read_bytes())
    script = tmp_path / "script.py"
    script.write_text(
        SETTING + f"for block in {blocks!r}:\n"
        "    exec(compile(block, 'document', 'exec'), {'__name__': 'block'})\n"
        "other.close(); net.close()\n"
    )
    home = {**os.environ, "HOME": str(tmp_path)}
    status, out, err = ended(python(f"exec(open({str(script)!r}).read())", cwd=tmp_path, env=home))
    assert status == 0, err


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(gvm.__path__, "gvm.")])
def test_docstrings(name: str) -> None:
    if name == "gvm._node":
        pytest.skip("a program, not a module to import")
    for module in (gvm, importlib.import_module(name)):
        failed, _ = doctest.testmod(module, extraglobs={"gvm": gvm})
        assert failed == 0
    assert doctest.testmod(gvm, extraglobs={"gvm": gvm}).attempted >= 1


def test_every_public_thing_says_what_it_is() -> None:
    for name in gvm.__all__:
        thing = getattr(gvm, name)
        if isinstance(thing, type) and name != "Function":
            assert thing.__doc__, name
