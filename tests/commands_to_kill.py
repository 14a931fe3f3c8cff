"""The real command, started many times over to be killed, and what a gateway saw of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from batch_gateway.testing import GatewayHandle


class Commands:
    """Starts the real command, many times over."""

    def __init__(self, requests: IO[str], replies: IO[str]) -> None:
        self._requests, self._replies = requests, replies

    def start(self, *arguments: object) -> int:
        print(
            json.dumps([str(argument) for argument in arguments]), file=self._requests, flush=True
        )
        return int(self._replies.readline())

    def exit_code(self) -> int:
        """Waits for the end of the one that was started last."""
        return int(self._replies.readline())


@contextmanager
def commands(folder: Path, *loaded: str) -> Iterator[Commands]:
    """In `folder`, where `log` is their terminal; `loaded` are modules that they need not load."""
    script = [sys.executable, str(Path(__file__).with_name("command_forks.py"))]
    environment = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    with subprocess.Popen(
        [*script, str(folder / "log"), *loaded],
        cwd=folder,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Commands(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(60) == 0


def times_received(gateway: GatewayHandle) -> dict[str, int]:
    records = gateway.journal()["requests"]
    return {request_id: record["received"] for request_id, record in records.items()}
