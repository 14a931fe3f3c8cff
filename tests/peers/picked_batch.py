"""One batch through a simulated pool, by way of a real Envoy or of native gRPC."""

from __future__ import annotations

import contextlib
import copy
import json
import random
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batch_gateway.testing import Decision, PickerConfig, PoolHandle, simulated_pool

from .envoy_pool import running_envoy_pool

__all__ = ["PODS", "Ran", "Way", "World", "batch_lines"]

Way = Literal["envoy", "native"]

PODS = 4
_LIMIT_S = 120.0
_OF_ONE_RUN = ("id", "created")


def batch_lines(count: int, groups: int = 20) -> list[dict[str, Any]]:
    """Chats whose prompts begin alike within each of `groups`, and differ at the end."""
    shared = [
        f"You are the assistant of shop {n}. " + f"Rule {n}: be brief. " * 30 for n in range(groups)
    ]
    return [
        {
            "custom_id": f"line-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "llama",
                "max_tokens": 4 + number % 5,
                "messages": [
                    {"role": "system", "content": shared[number % groups]},
                    {"role": "user", "content": f"Order {number}, where is it?"},
                ],
            },
        }
        for number in range(count)
    ]


@dataclass(frozen=True)
class Ran:
    """What a run said and wrote, and what the picker had decided at its end."""

    exit_code: int
    summary: dict[str, Any]
    results: dict[str, dict[str, Any]]
    errors: dict[str, dict[str, Any]]
    decisions: list[Decision]

    def answers(self) -> dict[str, dict[str, Any]]:
        """The results without what depends on who was served by which pod before."""
        answers = copy.deepcopy(self.results)
        for record in answers.values():
            record["response"]["body"]["usage"].pop("prompt_tokens_details")
        return answers

    def choices(self) -> list[tuple[str, list[str], str]]:
        """Request, endpoints and who served, in the order of the decisions."""
        return [(one.request_id, one.endpoints, one.served) for one in self.decisions]

    def completed(self, objective: str) -> dict[str, tuple[int, int]]:
        """The tokens that were counted for each request of this objective that came through."""
        return {
            one.request_id: (one.prompt_tokens, one.completion_tokens)
            for one in self.decisions
            if one.objective == objective and one.outcome == "completed"
        }

    def accounts(self) -> dict[str, tuple[int, int, int, bool, str]]:
        """By request: the tokens that the picker counted, how they came and what became of it."""
        return {
            one.request_id: (
                one.status,
                one.prompt_tokens,
                one.completion_tokens,
                one.streamed,
                one.outcome,
            )
            for one in self.decisions
        }


class World:
    """A pool that stands on the same ports in every run, so that choices can be compared."""

    def __init__(
        self, folder: Path, lines: Sequence[dict[str, Any]], configuration: str = ""
    ) -> None:
        self._folder = folder
        self._first_port = _row_of_free_ports(PODS + 1)
        (folder / "config.yaml").write_text(configuration, "utf-8")
        self._input = folder / "requests.jsonl"
        self._input.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    def run(
        self,
        way: Way,
        *flags: str,
        picker: PickerConfig | None = None,
        alongside: Callable[[str], contextlib.AbstractContextManager[object]] | None = None,
        withdrawn: bool = False,
        **pods: Any,
    ) -> Ran:
        """The whole batch through a fresh pool. `pods` are settings of SimulatorConfig.

        `alongside` gets the gateway's URL, and is entered for as long as the batch runs;
        `withdrawn` leaves the picker no pod to choose.
        """
        with contextlib.ExitStack() as running:
            pool = running.enter_context(
                simulated_pool(
                    PODS,
                    picker=picker,
                    port=self._first_port,
                    picker_port=self._first_port + PODS,
                    **pods,
                )
            )
            if withdrawn:
                for pod in range(PODS):
                    pool.withdraw(pod)
            gateway = pool.url
            if way == "envoy":
                port = int(pool.url.rpartition(":")[2])
                envoy = running_envoy_pool(
                    self._folder / "envoy", picker_port=port, pods=pool.addresses
                )
                gateway = running.enter_context(envoy).url
            if alongside is not None:
                running.enter_context(alongside(gateway))
            return self._run(pool, gateway, way, flags)

    def _run(self, pool: PoolHandle, gateway: str, way: Way, flags: Sequence[str]) -> Ran:
        output = self._folder / f"{way}.jsonl"
        command = [sys.executable, "-m", "batch_gateway", "run", self._input.name, "--fresh"]
        command += ["--gateway", gateway, "-o", output.name, "--config", "config.yaml"]
        command += ["--json", "--quiet", *flags]
        done = subprocess.run(
            command,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.stdout, done.stderr[-2000:]
        return Ran(
            done.returncode,
            json.loads(done.stdout),
            _by_custom_id(output),
            _by_custom_id(output.with_suffix(".errors.jsonl")),
            pool.decisions(),
        )


def _by_custom_id(path: Path) -> dict[str, dict[str, Any]]:
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    by_id = {record.pop("custom_id"): record for record in records}
    assert len(by_id) == len(records), "a line was answered twice"
    for record in by_id.values():
        body = (record["response"] or {}).get("body")
        if isinstance(body, dict):
            for name in _OF_ONE_RUN:
                body.pop(name, None)
    return by_id


def _row_of_free_ports(count: int) -> int:
    """The first of as many ports in a row that nobody listens on.

    Below those that outgoing connections get, which could take one between two runs.
    """
    while True:
        first = random.randrange(20_000, 30_000)
        with contextlib.ExitStack() as bound:
            try:
                for port in range(first, first + count):
                    bound.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
