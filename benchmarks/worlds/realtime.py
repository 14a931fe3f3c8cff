"""The main worlds over sockets, in real time: `python -m benchmarks.worlds.realtime`.

The simulated gateway is a process of its own, so that the client's CPU is the client's. Each cell
lasts `--seconds`, the climb included. Streamed answers cost the gateway's process far more, so each
form stands beside fixed numbers of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from batch_gateway import (
    AdaptiveConcurrency,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RetryPolicy,
)
from benchmarks.environment import REPOSITORY
from benchmarks.tables import print_table, write_json

SERVER: dict[str, Any] = {
    "seats": 64,
    "time_per_token": 0.01,
    "load_growth": 0.01,
    "output_tokens": 48,
    "prefill_tokens_per_second": 50_000.0,
    "jitter": 0.05,
}
_QUICK = SERVER | {"time_per_token": 0.002, "load_growth": 0.0}
_WORKERS = 500
_START_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class SocketWorld:
    """A server over sockets.

    Attributes:
        fixed: the limits that stand beside the one that is found.
        wobble, stalls, people: as `benchmarks.worlds.served` has them.
        clients: of ours, each with callers and a limit of its own.
        retries: how often a line is sent again; as good as ever where refusals say nothing.
    """

    settings: dict[str, Any]
    fixed: tuple[int, ...]
    wobble: float = 1.0
    stalls: tuple[float, float] = (0.0, 0.0)
    people: tuple[float, int, float] = (0.0, 0, 0.0)
    clients: int = 1
    retries: int = 3


def _by_chance(share: float) -> SocketWorld:
    settings = _QUICK | {"faults": {"status-429": share}}
    return SocketWorld(settings=settings, fixed=(32, 64, 96), retries=12)


WORLDS: dict[str, SocketWorld] = {
    "queues": SocketWorld(settings=SERVER, fixed=(10, 64, 400)),
    "refuses": SocketWorld(settings=SERVER | {"queue_limit": 0}, fixed=(10, 64, 400)),
    "flaky": SocketWorld(
        settings=SERVER | {"faults": {"status-500": 0.005, "reset-before-headers": 0.005}},
        fixed=(10, 64, 400),
    ),
    "quick": SocketWorld(settings=_QUICK, fixed=(32, 64, 96)),
    "wobble 1..2": SocketWorld(settings=_QUICK, wobble=2, fixed=(32, 64, 96)),
    "wobble 1..4": SocketWorld(settings=_QUICK, wobble=4, fixed=(32, 64, 96)),
    "chance 2%": _by_chance(0.02),
    "chance 5%": _by_chance(0.05),
    "quota": SocketWorld(
        settings=_QUICK | {"requests_per_minute": 6_000, "requests_burst": 100},
        fixed=(8, 11, 64),
        retries=12,
    ),
    "stalls": SocketWorld(settings=_QUICK, stalls=(20.0, 2.0), fixed=(32, 64, 96)),
    "two clients": SocketWorld(settings=SERVER, clients=2, fixed=(10, 32, 200)),
    "shared": SocketWorld(settings=SERVER, people=(5.0, 20, 10.0), fixed=(10, 32, 64)),
}
_FORMS = ("", ", streamed")
_NOBODY = "nobody"


@dataclass
class Count:
    answers: int = 0
    failed: int = 0
    number: int = 0


async def measure(world: SocketWorld, policy: str, seconds: float) -> dict[str, float]:
    """One cell: what clients with 500 callers each got within so many seconds."""
    async with served(world) as url:
        config = HTTPInferenceClientConfig(
            url,
            concurrency=_concurrency(policy),
            stream_upstream=policy.endswith(_FORMS[1]),
            max_idle_connections=_WORKERS,
            retry=RetryPolicy(max_retries=world.retries, budget_per_second=1_000),
        )
        counts = [Count() for _ in range(world.clients if policy != _NOBODY else 0)]
        cpu = time.process_time()
        working = [asyncio.create_task(_client(config, count)) for count in counts]
        await asyncio.sleep(seconds)
        told = await asyncio.to_thread(figures_of, url)
        cpu = time.process_time() - cpu
        for client in working:
            client.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        answers = [count.answers for count in counts]
        figures = {
            "answers/s": round(sum(answers) / seconds, 1),
            "refused": round(told["refused"] / max(1, told["received"]), 4),
            "waiting": round(told["waiting"], 1),
            "lost": sum(count.failed for count in counts),
            "client's CPU": round(cpu / seconds, 2),
            "server's CPU": round(told["cpu"] / seconds, 2),
        }
        if world.clients > 1:
            figures["least"] = round(min(answers) * len(answers) / max(1, sum(answers)), 3)
        if any(world.people):
            figures["people's p99"] = round(told["people_p99"], 3)
        return figures


async def _client(config: HTTPInferenceClientConfig, count: Count) -> None:
    async with HTTPInferenceClient(config) as client, asyncio.TaskGroup() as workers:
        for _ in range(_WORKERS):
            workers.create_task(_work(client, count))


def _concurrency(policy: str) -> AdaptiveConcurrency | FixedConcurrency:
    name = policy.partition(", ")[0]
    if name in ("adaptive", _NOBODY):
        return AdaptiveConcurrency()
    return FixedConcurrency(int(name.removeprefix("fixed ")))


async def _work(client: HTTPInferenceClient, count: Count) -> None:
    while True:
        count.number += 1
        messages = [{"role": "user", "content": f"question {count.number}"}]
        with contextlib.suppress(InferenceError):
            await client.generate(
                InferenceRequest(params={"model": "m", "max_tokens": 256, "messages": messages})
            )
            count.answers += 1
            continue
        count.failed += 1


# -- the gateway's process -----------------------------------------------------------------


@asynccontextmanager
async def served(world: SocketWorld) -> AsyncGenerator[str]:
    told = {name: getattr(world, name) for name in ("settings", "wobble", "stalls", "people")}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.worlds.served", json.dumps(told)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_SECONDS):
            url = (await process.stdout.readline()).decode().strip()
        yield url
    finally:
        process.stdin.close()
        await process.wait()


def figures_of(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/figures", timeout=30) as page:
        return json.load(page)


# -- the table -----------------------------------------------------------------------------


@dataclass
class Table:
    """The cells of one world, and each as a share of what the best fixed limit answers in the
    same form."""

    cells: dict[str, dict[str, float]]

    def judge(self) -> None:
        for name, cell in self.cells.items():
            form = name.partition(", ")[2]
            fixed = [
                other["answers/s"]
                for rival, other in self.cells.items()
                if rival.startswith("fixed") and rival.partition(", ")[2] == form
            ]
            cell["of best fixed"] = round(cell["answers/s"] / max(1e-9, *fixed), 3)

    def show(self, world: str) -> None:
        columns = ["", *next(iter(self.cells.values()))]
        rows = [[name, *map(str, cell.values())] for name, cell in self.cells.items()]
        print_table(f"{world}, over sockets", columns, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--world", action="append", choices=list(WORLDS))
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for name in options.world or WORLDS:
        world, table = WORLDS[name], Table({})
        names = ("adaptive", *(f"fixed {limit}" for limit in world.fixed))
        alone = [_NOBODY] if any(world.people) else []
        for policy in (*alone, *(name + form for form in _FORMS for name in names)):
            table.cells[policy] = asyncio.run(measure(world, policy, options.seconds))
        table.judge()
        table.show(name)
        results[name] = table.cells
    write_json("worlds-realtime", {"worlds": results, "seconds": options.seconds}, [])


if __name__ == "__main__":
    main()
