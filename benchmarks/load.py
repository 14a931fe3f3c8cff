"""One measurement of one contender, in a process of its own: `python -m benchmarks.load SPEC`.

Workers send one request after another. Once each has had its first answer, and the number of
connections stands, a window is measured: answers, user and system CPU of this process, and CPU of
the server's processes.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from benchmarks.contenders.contract import Open, Send, Target
from benchmarks.contenders.roster import ROSTER
from benchmarks.machine import (
    CLIENT_CORE,
    cpu_seconds_of,
    memory_mib,
    own_cpu_seconds,
    pin,
    take_turns,
)
from benchmarks.payload import ANSWER_TEXT

__all__ = ["LoadResult", "LoadSpec"]

_WARM_UP_LIMIT_S = 20.0
_SETTLE_LIMIT_S = 10.0
_SETTLE_STEP_S = 0.25


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. `delay` is the server's, `window` how long to measure, in seconds.

    `turns` says that the server has the same core, see `take_turns`.
    """

    contender: str
    target: Target
    server_pids: list[int]
    delay: float = 0.0
    window: float = 1.0
    turns: bool = False


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured. `cpu_us` is user + system of this process per answer."""

    requests: int
    requests_per_s: float
    cpu_us: float
    cpu_busy: float
    server_busy: float
    peak_mib: float


class _Progress:
    """Counters that the workers share."""

    def __init__(self, workers: int) -> None:
        self.answers = 0
        self.cold = workers
        self.all_warm = asyncio.Event()


async def _work(send: Send, progress: _Progress, start_after: float) -> None:
    # Spread over one delay, or all requests would travel in one wave for the whole window.
    await asyncio.sleep(start_after)
    if await send() != ANSWER_TEXT:
        raise SystemExit("the contender returned something else than the answer")
    progress.cold -= 1
    if progress.cold == 0:
        progress.all_warm.set()
    while True:
        await send()
        progress.answers += 1


async def _measure(new_worker: Callable[[], Send], spec: LoadSpec) -> LoadResult:
    in_flight = spec.target.in_flight
    progress = _Progress(in_flight)
    workers = [
        asyncio.create_task(_work(new_worker(), progress, spec.delay * number / in_flight))
        for number in range(in_flight)
    ]
    warm = asyncio.create_task(progress.all_warm.wait())
    await asyncio.wait(
        [warm, *workers], timeout=_WARM_UP_LIMIT_S, return_when=asyncio.FIRST_COMPLETED
    )
    for worker in workers:
        if worker.done():
            _leave_with(worker.exception())
    await _wait_for_connections()
    return await _measure_window(progress, spec)


async def _wait_for_connections() -> None:
    """Until their number stands: who dials a few at a time serves all workers with fewer."""
    before = -1
    for _ in range(round(_SETTLE_LIMIT_S / _SETTLE_STEP_S)):
        now = _open_files()
        if now == before:
            return
        before = now
        await asyncio.sleep(_SETTLE_STEP_S)


async def _measure_window(progress: _Progress, spec: LoadSpec) -> LoadResult:
    answers, started = progress.answers, time.perf_counter()
    own_cpu, server_cpu = own_cpu_seconds(), cpu_seconds_of(spec.server_pids)
    await asyncio.sleep(spec.window)
    answered, took = progress.answers - answers, time.perf_counter() - started
    own_cpu, server_cpu = own_cpu_seconds() - own_cpu, cpu_seconds_of(spec.server_pids) - server_cpu
    return LoadResult(
        requests=answered,
        requests_per_s=answered / took,
        cpu_us=own_cpu / max(answered, 1) * 1e6,
        cpu_busy=own_cpu / took,
        server_busy=server_cpu / took,
        peak_mib=memory_mib("VmHWM"),
    )


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def _leave_with(error: BaseException | None) -> NoReturn:
    """Say what went wrong before thousands of other workers fail because the client closes."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)


def _opener(contender: str) -> Open:
    """Of a client of the roster, or of ours with the layer of that name."""
    if contender in ROSTER:
        return ROSTER[contender].load()
    # Nobody else's memory is to hold this package.
    from benchmarks.contenders.layered import layered

    return layered(contender)


async def _run(spec: LoadSpec) -> None:
    open_client = _opener(spec.contender)
    async with open_client(spec.target) as new_worker:
        result = await _measure(new_worker, spec)
        sys.stdout.buffer.write(msgspec.json.encode(result))
        sys.stdout.flush()
        # Thousands of workers are in the middle of a request; unwinding them is not measured.
        os._exit(0)


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=LoadSpec)
    if spec.turns:
        take_turns()
    else:
        pin(CLIENT_CORE)
    if spec.contender not in ROSTER or ROSTER[spec.contender].loop == "uvloop":
        import uvloop

        uvloop.run(_run(spec))
    else:
        asyncio.run(_run(spec))


if __name__ == "__main__":
    main()
