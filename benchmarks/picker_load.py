"""One measurement of one way to a pod, in a process of its own: `python -m benchmarks.picker_load`.

The way is in the URL: http:// straight to a pod or through Envoy, grpc:// through the picker.
Workers send one request after another, or each at its own times where a rate is given; once each
has had its first answers a window is measured.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from statistics import quantiles

import msgspec
import uvloop

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from benchmarks.machine import CLIENT_CORE, SERVER_CORE, cpu_seconds_of, own_cpu_seconds, pin
from benchmarks.payload import ANSWER_TEXT, REQUEST

__all__ = ["PickerLoadResult", "PickerLoadSpec"]

_WARM_UP_S = 0.5
_WARM_UP_ANSWERS = 3
_WARM_UP_LIMIT_S = 20.0


class PickerLoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure: `pids` by name are the processes whose CPU is counted beside our own.

    `rate` is requests/s of all workers together, evenly spread; 0 is as fast as answers come.
    `shared_core` puts the client on the core of the others, so that all take turns.
    """

    url: str
    in_flight: int
    window: float
    pids: dict[str, list[int]]
    rate: float = 0.0
    shared_core: bool = False


class PickerLoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. CPU is user + system time, in µs a request; latency is in µs."""

    requests: int
    requests_per_s: float
    cpu_us: float
    cpu_busy: float
    median_us: float
    p99_us: float
    others_us: dict[str, float]


class _Workers:
    """Requests one after another, and how long each took while a window is open."""

    def __init__(self, client: HTTPInferenceClient, spec: PickerLoadSpec) -> None:
        self._client = client
        self._interval = spec.in_flight / spec.rate if spec.rate else 0.0
        self._started = time.perf_counter()
        self._in_flight = spec.in_flight
        self.answers = 0
        self.seconds: list[float] = []

    async def work(self, number: int) -> None:
        clock = time.perf_counter
        due = self._started + self._interval * number / self._in_flight
        while True:
            if self._interval:
                await asyncio.sleep(due - clock())
                due = max(due + self._interval, clock())
            started = clock()
            response = await self._client.generate(InferenceRequest(params=REQUEST))
            content = response.json()["choices"][0]["message"]["content"]
            self.seconds.append(clock() - started)
            self.answers += 1
            if content != ANSWER_TEXT:
                raise SystemExit("something else than the answer came back")


async def _measure(spec: PickerLoadSpec) -> PickerLoadResult:
    config = HTTPInferenceClientConfig(spec.url, max_idle_connections=spec.in_flight, retry=None)
    async with HTTPInferenceClient(config) as client:
        workers = _Workers(client, spec)
        tasks = [asyncio.create_task(workers.work(number)) for number in range(spec.in_flight)]
        await _warm_up(workers, tasks, spec)
        result = await _measure_window(workers, spec)
        for task in tasks:
            if task.done():
                task.result()
        sys.stdout.buffer.write(msgspec.json.encode(result))
        sys.stdout.flush()
        os._exit(0)  # unwinding what is under way is not measured


async def _warm_up(
    workers: _Workers, tasks: list[asyncio.Task[None]], spec: PickerLoadSpec
) -> None:
    end = time.monotonic() + _WARM_UP_LIMIT_S
    await asyncio.sleep(_WARM_UP_S)
    while workers.answers < spec.in_flight * _WARM_UP_ANSWERS:
        for task in tasks:
            if task.done():
                task.result()
        if time.monotonic() > end:
            raise SystemExit(f"{workers.answers} answers in {_WARM_UP_LIMIT_S:.0f} s")
        await asyncio.sleep(0.05)


async def _measure_window(workers: _Workers, spec: PickerLoadSpec) -> PickerLoadResult:
    workers.seconds.clear()
    others = {name: cpu_seconds_of(pids) for name, pids in spec.pids.items()}
    started, own = time.perf_counter(), own_cpu_seconds()
    await asyncio.sleep(spec.window)
    took, own = time.perf_counter() - started, own_cpu_seconds() - own
    count = len(workers.seconds)
    if count < 2:
        raise SystemExit("no answers within the window")
    cuts = quantiles(workers.seconds, n=100)
    return PickerLoadResult(
        requests=count,
        requests_per_s=count / took,
        cpu_us=own / count * 1e6,
        cpu_busy=own / took,
        median_us=cuts[49] * 1e6,
        p99_us=cuts[98] * 1e6,
        others_us={
            name: (cpu_seconds_of(pids) - others[name]) / count * 1e6
            for name, pids in spec.pids.items()
        },
    )


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=PickerLoadSpec)
    pin(SERVER_CORE if spec.shared_core else CLIENT_CORE)
    uvloop.run(_measure(spec))


if __name__ == "__main__":
    main()
