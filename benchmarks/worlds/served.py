"""A simulated gateway in a process of its own: `python -m benchmarks.worlds.served JSON`.

The JSON has `settings` of the simulator, and perhaps `wobble` (the greatest factor on latencies),
`stalls` (every so many seconds, for so many) and `people` (so many a second, and so many more
every so many seconds). It prints its URL, answers GET /figures, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sys
import time
from collections.abc import Coroutine
from typing import Any

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig
from benchmarks.worlds.record import percentile

_LOOK_SECONDS = 0.25
_BURST_SECONDS = 2.0
_QUESTION: dict[str, Any] = {
    "model": "m",
    "max_tokens": 256,
    "messages": [{"role": "user", "content": "What is the time?"}],
}


class Watch:
    """How many wait in the server's queue, on average over looks."""

    def __init__(self, gateway: SimulatedGateway, people: People) -> None:
        self._gateway = gateway
        self._people = people
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
            "people_p99": percentile(self._people.waits(), 0.99),
            "cpu": time.process_time(),
        }


class People:
    """Interactive users of a gateway, who stream.

    Args:
        rate: of those who come at random, a second.
        burst, every: so many more within two seconds, every so many seconds.
    """

    def __init__(self, rate: float, burst: int, every: float) -> None:
        self._rate, self._burst, self._every = rate, burst, every
        self._draws = random.Random(1)
        self._waited: list[float] = []
        self._waiting: dict[object, float] = {}

    def waits(self) -> list[float]:
        """Seconds to the first token, and so far of those who still wait for it."""
        now = time.monotonic()
        return self._waited + [now - since for since in self._waiting.values()]

    async def run(self, url: str) -> None:
        config = HTTPInferenceClientConfig(url, stream_upstream=True, retry=None)
        async with HTTPInferenceClient(config) as client, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._come_in_bursts(client, tasks))
            while self._rate:
                await asyncio.sleep(self._draws.expovariate(self._rate))
                tasks.create_task(self._ask(client, 0.0))

    async def _come_in_bursts(self, client: HTTPInferenceClient, tasks: asyncio.TaskGroup) -> None:
        while self._burst:
            await asyncio.sleep(self._every)
            for _ in range(self._burst):
                tasks.create_task(self._ask(client, self._draws.uniform(0, _BURST_SECONDS)))

    async def _ask(self, client: HTTPInferenceClient, after: float) -> None:
        await asyncio.sleep(after)
        who = object()
        self._waiting[who] = time.monotonic()
        with contextlib.suppress(InferenceError):
            answer = await client.generate(InferenceRequest(params=_QUESTION))
            self._waited.append(answer.time_to_first_token or 0.0)
        del self._waiting[who]


async def serve(
    settings: dict[str, Any], wobble: float, stalls: tuple[float, float], people: People
) -> None:
    async with SimulatedGateway(SimulatorConfig(**settings)) as gateway:
        watch = Watch(gateway, people)
        gateway.add_page("/figures", watch.figures)
        weather: list[Coroutine[Any, Any, None]] = [watch.run(), people.run(gateway.url)]
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
    people = People(*told.get("people", (0.0, 0, 0.0)))
    asyncio.run(serve(told["settings"], told.get("wobble", 1.0), stalls, people))


if __name__ == "__main__":
    main()
