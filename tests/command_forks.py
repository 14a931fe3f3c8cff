"""Runs `batch-gateway` again and again, each time in a fork that did not pay for the imports.

Reads one JSON list of arguments a line; answers with the fork's process id, and once that has
ended with its exit code, negative for a signal.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from batch_gateway.cli.main import main


def run_forked(arguments: list[str], log: Path) -> int:
    """The process id of a fork that runs the command with `log` as its terminal."""
    child = os.fork()
    if child:
        return child
    code: object = 1
    try:
        terminal = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        main(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def serve(log: Path) -> None:
    for request in sys.stdin:
        child = run_forked(json.loads(request), log)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    for module in sys.argv[2:]:
        importlib.import_module(module)
    serve(Path(sys.argv[1]))
