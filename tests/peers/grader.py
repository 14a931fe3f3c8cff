"""llmock as a process: a server that fails on demand and then judges how its client took it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.peers.installing import peer_environment
from tests.peers.processes import free_port, running_process

__all__ = ["Grader", "running_grader"]

_ANSWER_LIMIT_S = 20.0


class Grader:
    """The control side of a running llmock."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def runs_as(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def kill(self) -> None:
        """As a crash would: no answer is finished, no connection said good-bye to."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(_ANSWER_LIMIT_S)

    def script(self, *behaviors: dict[str, Any]) -> None:
        """Queue what the next requests meet, e.g. `{"type": "fail", "status": 429}`."""
        self._call("POST", "scenario", {"behaviors": list(behaviors)})

    def fail(self, status: int, **details: Any) -> None:
        """Answer with this status: once, `times` times, or always for `times=None`."""
        self.script({"type": "fail", "status": status, **details})

    def pending(self) -> list[dict[str, Any]]:
        """The scripts that no request has met yet."""
        pending: list[dict[str, Any]] = self._call("GET", "scenario")["pending"]
        return pending

    def statuses(self) -> list[int]:
        """The status of every attempt that arrived, in order."""
        return [record["status"] for record in self._call("GET", "requests")["requests"]]

    def findings(self) -> list[str]:
        """What it holds against the client, `error:` or `warning:` and its name for it."""
        verdict = self._call("GET", "verdict")
        found = [f"{one['severity']}: {one['code']}" for one in verdict["findings"]]
        assert verdict["passed"] == (not any(one.startswith("error") for one in found))
        return found

    def is_blameless(self, *, attempts: int) -> bool:
        """Whether it saw `attempts` requests and found nothing, not even a warning."""
        seen = self._call("GET", "verdict")["attempts"]
        assert (seen, self.findings()) == (attempts, [])
        return True

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False

    def reset(self) -> None:
        """Forget requests and scripts; what is still under way will not be recorded."""
        self._call("POST", "reset")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_llmock/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_LIMIT_S) as response:
            return json.load(response)


@contextmanager
def running_grader(log: Path, *flags: str, port: int | None = None) -> Iterator[Grader]:
    """A fresh llmock; skips where it cannot be installed."""
    python = peer_environment("llmock", ["llmock==0.2.2"])
    grader = Grader(port or free_port())
    command = [str(python.with_name("llmock")), "serve", "--host", "127.0.0.1"]
    command += ["--port", str(grader.port), "--log-level", "warning", *flags]
    with running_process(command, is_ready=grader.is_ready, log=log) as process:
        grader.runs_as(process)
        yield grader
