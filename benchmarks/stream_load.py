"""One measurement of a reader of streams, in a process of its own.

`python -m benchmarks.stream_load SPEC`: each worker reads a first answer, which is not counted,
and then so many more; what all those took of this process's CPU is divided by their events. One
answer is read before all others, so that loading the client is no part of what streams take.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
from collections.abc import Callable
from typing import cast

import msgspec
import uvloop

from benchmarks.contenders.contract import Open, Send, Target
from benchmarks.machine import CLIENT_CORE, memory_mib, own_cpu_seconds, pin, take_turns
from benchmarks.servers.event_server import event_text, events

__all__ = ["StreamResult", "StreamSpec"]


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. `opener` is "module:function" below `benchmarks.contenders`.

    `answers` is how many each worker reads, 0 to look at memory alone; `apart` says that the server
    has its own core.
    """

    opener: str
    target: Target
    control_port: int
    events: int
    answers: int
    apart: bool = False


class StreamResult(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured: user + system CPU of this process per event, and its memory."""

    cpu_us: float
    before_mib: float
    peak_mib: float


class _Control(asyncio.Protocol):
    """Tells the server that what it has sent has been read: see `benchmarks.servers`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


async def _work(send: Send, answers: int, wanted: set[str]) -> None:
    for _ in range(answers):
        if await send() not in wanted:
            raise SystemExit("the contender returned something else than the answer")


async def _measure(new_worker: Callable[[], Send], spec: StreamSpec) -> StreamResult:
    # The floor counts events, and looks into none.
    wanted = {event_text(spec.events), str(len(events(spec.events)))}
    await _work(new_worker(), 1, wanted)
    before = memory_mib("VmRSS")
    workers = [new_worker() for _ in range(spec.target.in_flight)]
    await asyncio.gather(*(_work(send, 1, wanted) for send in workers))
    started = own_cpu_seconds()
    await asyncio.gather(*(_work(send, spec.answers, wanted) for send in workers))
    counted = len(workers) * spec.answers * spec.events
    return StreamResult(
        cpu_us=(own_cpu_seconds() - started) / counted * 1e6 if counted else 0.0,
        before_mib=before,
        peak_mib=memory_mib("VmHWM"),
    )


async def _run(spec: StreamSpec) -> None:
    module, _, function = spec.opener.partition(":")
    open_client: Open = getattr(
        importlib.import_module(f"benchmarks.contenders.{module}"), function
    )
    loop = asyncio.get_running_loop()
    await loop.create_connection(_Control, "127.0.0.1", spec.control_port)
    async with open_client(spec.target) as new_worker:
        result = await _measure(new_worker, spec)
        sys.stdout.buffer.write(msgspec.json.encode(result))
        sys.stdout.flush()
        os._exit(0)


def main() -> None:
    spec = msgspec.json.decode(sys.argv[1], type=StreamSpec)
    if spec.apart:
        pin(CLIENT_CORE)
    else:
        take_turns()
    uvloop.run(_run(spec))


if __name__ == "__main__":
    main()
