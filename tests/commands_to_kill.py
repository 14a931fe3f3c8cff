"""The real command, started many times over to be killed, and what a gateway saw of it."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from batch_gateway.testing import GatewayHandle
from tests.command_forks import Request

__all__ = ["Command", "Commands", "begin_command", "commands", "times_received"]

LIMIT = 60.0


class Command:
    """One that was begun. It is a fork of a process that had loaded all before."""

    def __init__(self, asks: Callable[[object], Any], request: Request) -> None:
        self._asks = asks
        self._code: int | None = None
        self.pid = int(asks(request))

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        if self._code is None:
            self._code = self._asks(self.pid)
        return self._code

    def send_signal(self, kind: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, kind)

    def wait(self, limit: float = LIMIT) -> int:
        """Its exit code, once it has ended."""
        end = time.monotonic() + limit
        while (code := self.poll()) is None:
            assert time.monotonic() < end, f"process {self.pid} goes on and on"
            time.sleep(0.01)
        return code


def begin_command(
    *words: object,
    script: Path | None = None,
    folder: Path | None = None,
    log: Path,
    more: Mapping[str, str] | None = None,
) -> Command:
    """`batch-gateway` with these words, or a script that begins it.

    Its terminal is `log`, its environment that of this process with `more`, without proxies.
    """
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    request = Request(
        script=None if script is None else str(script),
        words=[str(word) for word in words],
        folder=str(folder or Path.cwd()),
        log=str(log),
        environment=environment | dict(more or {}),
    )
    return Command(_forks(), request)


class Commands:
    """Starts the real command, many times over."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.started: list[Command] = []

    def start(self, *words: object) -> int:
        self.started.append(begin_command(*words, folder=self._folder, log=self._folder / "log"))
        return self.started[-1].pid

    def exit_code(self) -> int:
        """Waits for the end of the one that was started last."""
        return self.started[-1].wait()


@contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """In `folder`, where `log` is their terminal. All have ended when the block is left."""
    run = Commands(folder)
    yield run
    for one in run.started:
        one.wait()


@cache
def _forks() -> Callable[[object], Any]:
    """Asks the process that forks, of which there is one for all tests."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.command_forks"],
        cwd=Path(__file__).parents[1],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    turn = Lock()

    def ask(request: object) -> Any:
        with turn:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps(request), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

    def end() -> None:
        with suppress(OSError):
            process.communicate(timeout=LIMIT)

    atexit.register(end)
    return ask


def times_received(gateway: GatewayHandle) -> dict[str, int]:
    records = gateway.journal()["requests"]
    return {request_id: record["received"] for request_id, record in records.items()}


# Before any test, so that no test has begun it.
_forks()
