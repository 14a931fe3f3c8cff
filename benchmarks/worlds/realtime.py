"""The main worlds over sockets, in real time: `python -m benchmarks.worlds.realtime`.

The simulated gateway and the client run in one process; half a minute a cell.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
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
from batch_gateway.simulator.config import SimulatorConfig
from batch_gateway.simulator.gateway import SimulatedGateway
from benchmarks.tables import print_table, write_json

_POLICIES = {
    "adaptive": AdaptiveConcurrency(),
    "fixed 10": FixedConcurrency(10),
    "fixed 64": FixedConcurrency(64),
    "fixed 400": FixedConcurrency(400),
}
SERVER: dict[str, Any] = {
    "seats": 64,
    "time_per_token": 0.01,
    "load_growth": 0.01,
    "output_tokens": 48,
    "prefill_tokens_per_second": 50_000.0,
    "jitter": 0.05,
}
_WORLDS: dict[str, dict[str, Any]] = {
    "queues": {},
    "refuses": {"queue_limit": 0},
    "flaky": {"faults": {"status-500": 0.005, "reset-before-headers": 0.005}},
}
_WORKERS = 500


@dataclass
class Count:
    answers: int = 0
    failed: int = 0
    number: int = 0


async def measure(world: str, policy: str, seconds: float) -> dict[str, Any]:
    async with SimulatedGateway(SimulatorConfig(**SERVER, **_WORLDS[world])) as gateway:
        config = HTTPInferenceClientConfig(
            gateway.url,
            concurrency=_POLICIES[policy],
            max_idle_connections=_WORKERS,
            retry=RetryPolicy(budget_per_second=1_000),
        )
        async with HTTPInferenceClient(config) as client:
            count = Count()
            began = time.monotonic()
            workers = [asyncio.create_task(_work(client, count)) for _ in range(_WORKERS)]
            waiting, samples = 0, 0
            while time.monotonic() - began < seconds:
                await asyncio.sleep(0.25)
                waiting, samples = waiting + gateway.waiting, samples + 1
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        refused = gateway.journal.by_status.get(429, 0)
        return {
            "answers_per_second": round(count.answers / seconds, 1),
            "refused_share": round(refused / max(1, gateway.journal.received), 4),
            "mean_waiting": round(waiting / samples, 1),
            "lost": count.failed,
        }


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    results: dict[str, Any] = {}
    for world in _WORLDS:
        results[world] = {
            policy: asyncio.run(measure(world, policy, seconds)) for policy in _POLICIES
        }
        columns = ["", *next(iter(results[world].values()))]
        rows = [[name, *map(str, found.values())] for name, found in results[world].items()]
        print_table(f"{world}, over sockets", columns, rows)
    write_json("worlds-realtime", {"worlds": results, "seconds": seconds}, [])


if __name__ == "__main__":
    main()
