"""`batch-gateway serve` in a process of its own, to be signalled and started again."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2

from batch_gateway.testing import GatewayHandle
from tests.commands_to_kill import Commands, commands

LONGEST_WAIT = 60.0


class ServedFolder:
    """`batch-gateway serve` on one folder, in a process of its own."""

    def __init__(self, run: Commands, folder: Path, gateway: str, *flags: object) -> None:
        self._run, self._log, self._starts = run, folder / "log", 0
        self._flags = ("--gateway", gateway, "--data", folder / "data", "--concurrency", 8)
        self._more = flags
        self.process, self.url = 0, ""

    def start(self) -> None:
        ports = ("--port", 0, "--observability-port", 0)
        self.process = self._run.start("serve", *self._flags, *ports, *self._more)
        self._starts += 1
        until(lambda: len(self._urls()) == self._starts)
        self.url = self._urls()[-1]

    def _urls(self) -> list[str]:
        return re.findall(r"^http://\S+", self.log(), re.MULTILINE)

    def terminate(self) -> None:
        os.kill(self.process, signal.SIGTERM)

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def exit_code(self) -> int:
        return self._run.exit_code()

    def submit(self, http: httpx2.Client, lines: bytes) -> str:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", lines)}}
        file = http.post("/v1/files", **form).json()
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = http.post("/v1/batches", json=wanted | {"input_file_id": file["id"]})
        return batch.json()["id"]


@contextmanager
def a_served_folder(folder: Path, gateway: GatewayHandle, *flags: object) -> Iterator[ServedFolder]:
    with commands(folder) as run:
        service = ServedFolder(run, folder, gateway.url, *flags)
        service.start()
        try:
            yield service
        except BaseException:
            with suppress(ProcessLookupError):
                service.kill()
            raise


def until(condition: Callable[[], object]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + LONGEST_WAIT
        time.sleep(0.01)
