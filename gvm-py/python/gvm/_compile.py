"""The compiler child: `python -m gvm._compile plain|fuel WASM CODE`.

In: a file of wasm. Out: a file of machine code; the exit status says how it went. Bounds itself first.
"""

import sys

from ._gvm import compile_main

if __name__ == "__main__":
    sys.exit(compile_main(sys.argv[1:]))
