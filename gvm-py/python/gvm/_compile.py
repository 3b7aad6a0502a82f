"""The compiler process: `python -m gvm._compile plain|fuel WASM CODE`.

In: a file with WebAssembly. Out: a file with machine code, and an exit status. The process limits its own memory and
time before it compiles. Must not know: nodes.
"""

import sys

from ._gvm import compile_main

if __name__ == "__main__":
    sys.exit(compile_main(sys.argv[1:]))
