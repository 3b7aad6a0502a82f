"""A node in its own process: `python -m gvm._node CONFIG`, a child process of `LocalNetwork`.

In: a configuration as JSON, and a pipe from the parent as standard input. Out: one line of JSON when the node is
ready, or when it fails to start. The process ends when the pipe closes, so it never outlives its parent. Must not
know: the class `LocalNetwork`.
"""

import json
import os
import shutil
import signal
import sys


def main() -> int:
    # The parent decides what an interrupt ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from . import Node
    from ._errors import Error

    config = json.loads(sys.argv[1])
    temporary = config.pop("temporary")
    try:
        node = Node(**config)
    except Error as error:
        said = {"code": error.code, "message": error.message, "context": error.context, "help": error.help}
        print(json.dumps(said), flush=True)
        return 1
    print(json.dumps({"name": node.name, "id": node.id}), flush=True)
    farewell = sys.stdin.buffer.read()
    if farewell:
        node.close(hurry=True)
        return 0
    # The parent ended without a farewell, and the network's daemon ended with it.
    shutil.rmtree(temporary, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
