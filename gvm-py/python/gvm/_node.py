"""A node in a process of its own: `python -m gvm._node CONFIG`, a child of `LocalNetwork`.

In: a configuration as JSON; its parent's pipe as standard input. Out: one line of JSON once it answers. It
lives as long as the pipe: a parent that is gone, however it went, takes it along. Must not know: what the
network is for.
"""

import json
import os
import shutil
import signal
import sys


def main() -> int:
    # Ctrl-C at a terminal reaches every process of the group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from . import Node
    from ._errors import Error

    config = json.loads(sys.argv[1])
    temporary = config.pop("temporary")
    try:
        node = Node(**config)
    except Error as error:
        print(json.dumps({"code": error.code, "message": error.message}), flush=True)
        return 1
    print(json.dumps({"name": node.name, "id": node.id}), flush=True)
    farewell = sys.stdin.buffer.read()
    if farewell:
        node.close(hurry=True)
        return 0
    # The parent is gone without a word, and the network's daemon with it.
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
