"""Runs commands in forks of this process, which has paid for the imports of all of them.

Reads a request a line, as JSON: what to begin, answered by the fork's process id; or such an id,
answered by its exit code, negative for a signal, null before its end.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from batch_gateway.cli.main import main

TESTS = Path(__file__).parent
LOADED = (
    "batch_gateway.cli.run",
    "batch_gateway.server.process",
    "batch_gateway.storage.from_url",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "alembic.context",
)
"""What commands load once they know what they are to do."""


class Request(TypedDict):
    """A command to begin.

    Attributes:
        script: which begins it with these words; None for `batch-gateway` itself. One of another
            version than what is loaded here has an interpreter of its own.
        folder: where it is.
        log: of what it says.
        environment: all of its variables.
    """

    script: str | None
    words: Sequence[str]
    folder: str
    log: str
    environment: dict[str, str]


def forked(asked: Request) -> int:
    """The process id of a fork that runs it."""
    child = os.fork()
    if child:
        return child
    code: object = 1
    try:
        terminal = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        tempfile.tempdir = None
        begin(asked["script"], asked["words"])
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def begin(script: str | None, words: Sequence[str]) -> None:
    if script is None:
        main(words)
    elif Path(script).is_relative_to(TESTS):
        sys.argv = [script, *words]
        runpy.run_path(script, run_name="__main__")
    else:
        os.execv(sys.executable, [sys.executable, script, *words])


def exit_code(child: int) -> int | None:
    ended, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def serve() -> None:
    children = set[int]()
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            answer = exit_code(asked)
            children -= {asked} if answer is not None else set()
        else:
            answer = forked(asked)
            children.add(answer)
        print(json.dumps(answer), flush=True)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    for module in LOADED:
        importlib.import_module(module)
    serve()
