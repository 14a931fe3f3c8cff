"""A simulated gateway in a process of its own: `python -m benchmarks.worlds.served JSON`.

The JSON has `settings` of the simulator, and perhaps `wobble` (the greatest factor on latencies)
and `stalls` (every so many seconds, for so many). It prints its URL, answers GET /figures, and
ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Coroutine
from typing import Any

from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig

_LOOK_SECONDS = 0.25


class Watch:
    """How many wait in the server's queue, on average over looks."""

    def __init__(self, gateway: SimulatedGateway) -> None:
        self._gateway = gateway
        self._waiting = self._looks = 0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self._waiting += self._gateway.waiting
            self._looks += 1

    def figures(self) -> dict[str, float]:
        journal = self._gateway.journal
        return {
            "received": journal.received,
            "refused": journal.by_status.get(429, 0),
            "waiting": self._waiting / max(1, self._looks),
            "cpu": time.process_time(),
        }


async def serve(settings: dict[str, Any], wobble: float, stalls: tuple[float, float]) -> None:
    async with SimulatedGateway(SimulatorConfig(**settings)) as gateway:
        watch = Watch(gateway)
        gateway.add_page("/figures", watch.figures)
        weather: list[Coroutine[Any, Any, None]] = [watch.run()]
        if wobble > 1:
            weather.append(_wobble(gateway, wobble))
        if stalls[1]:
            weather.append(_stall(gateway, *stalls))
        tasks = [asyncio.create_task(one) for one in weather]
        print(gateway.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _wobble(gateway: SimulatedGateway, most: float) -> None:
    draws = random.Random(1)
    while True:
        gateway.configure(latency_scale=draws.uniform(1, most))
        await asyncio.sleep(draws.uniform(0.2, 1.0))


async def _stall(gateway: SimulatedGateway, every: float, seconds: float) -> None:
    """One step that takes so long, a quarter of the time after the start and again and again."""
    usual = gateway.config
    await asyncio.sleep(every / 4)
    while True:
        gateway.configure(time_per_token=seconds, load_growth=0.0, jitter=0.0)
        # A step that has begun ends as it began, whatever the next one takes.
        await asyncio.sleep(seconds / 4)
        gateway.configure(
            time_per_token=usual.time_per_token,
            load_growth=usual.load_growth,
            jitter=usual.jitter,
        )
        await asyncio.sleep(every - seconds / 4)


def main() -> None:
    told = json.loads(sys.argv[1])
    stalls = tuple(told.get("stalls", (0.0, 0.0)))
    asyncio.run(serve(told["settings"], told.get("wobble", 1.0), stalls))


if __name__ == "__main__":
    main()
