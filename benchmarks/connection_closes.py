"""What connections that a server closes cost: `python -m benchmarks.connection_closes [--quick]`.

`generate()` of 1 KB requests, 64 at a time, against one server that answers at once and treats its
connections in one of four ways: keeps them, says `Connection: close` and closes, closes after
each answer without a word, or when the second request comes. The server is a process of its own;
rounds are interleaved and medians shown, with the client's CPU time and wall time beside those of
the server that says so.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from statistics import median
from typing import cast

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from benchmarks.machine import describe
from benchmarks.tables import Aim, print_aims, print_table, write_json

_BASE = "says Connection: close"
WAYS = ("keeps its connections", _BASE, "closes after each answer", "closes at the second request")
_IN_FLIGHT = 64
_BODY = b'{"object":"chat.completion","choices":[{"message":{"content":"hello"}}]}'
_PARAMS = {"model": "m", "messages": [{"role": "user", "content": "x" * 1000}]}


@dataclass(frozen=True)
class Figures:
    """Of one request, in microseconds, and how often a request was sent."""

    cpu_us: float
    wall_us: float
    sendings: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests")
    parser.add_argument("--rounds", type=int, default=5, help="repetitions")
    options = parser.parse_args()
    requests = 600 if options.quick else 3000
    print("machine:", ", ".join(f"{key} {value}" for key, value in describe().items()))
    measured: dict[str, list[Figures]] = {way: [] for way in WAYS}
    with _servers() as ports:
        for _ in range(options.rounds):
            for way, port in ports.items():
                measured[way].append(_measure(port, requests))
    medians = {way: _median(figures) for way, figures in measured.items()}
    base = medians[_BASE]
    rows = [
        [
            way,
            f"{one.cpu_us:.0f}",
            f"{one.cpu_us / base.cpu_us:.2f}",
            f"{one.wall_us:.0f}",
            f"{one.wall_us / base.wall_us:.2f}",
            f"{one.sendings:.3f}",
        ]
        for way, one in medians.items()
    ]
    columns = ["the server", "CPU µs", "CPU ratio", "wall µs", "wall ratio", "sendings"]
    print_table(f"{requests:,} requests, {_IN_FLIGHT} at a time", columns, rows)
    aims = [
        Aim(f"{way}, {what} beside one that says so", value, 2.0)
        for way in WAYS[2:]
        for what, value in (
            ("CPU", medians[way].cpu_us / base.cpu_us),
            ("wall time", medians[way].wall_us / base.wall_us),
        )
    ]
    print_aims(aims)
    write_json("connection_closes", {way: vars(one) for way, one in medians.items()}, aims)


def _median(figures: list[Figures]) -> Figures:
    return Figures(
        median(one.cpu_us for one in figures),
        median(one.wall_us for one in figures),
        median(one.sendings for one in figures),
    )


def _measure(port: int, requests: int) -> Figures:
    return asyncio.run(_generate(port, requests))


async def _generate(port: int, requests: int) -> Figures:
    left = iter(range(requests))

    async def work(client: HTTPInferenceClient) -> None:
        for _ in left:
            await client.generate(InferenceRequest(params=_PARAMS))

    before = await _seen(port)
    config = HTTPInferenceClientConfig(f"http://127.0.0.1:{port}", retry=None)
    async with HTTPInferenceClient(config) as client:
        started, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(client) for _ in range(_IN_FLIGHT)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - started
    sendings = await _seen(port) - before
    return Figures(cpu / requests * 1e6, wall / requests * 1e6, sendings / requests)


async def _seen(port: int) -> int:
    """How many requests the server has had."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"?")
    count = int(await reader.read())
    writer.close()
    await writer.wait_closed()
    return count


# --- the server ---


class _Server(asyncio.Protocol):
    seen = 0

    def __init__(self, way: str) -> None:
        self._way = way
        self._data = b""
        self._answered = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if data == b"?":
            self._transport.write(b"%d" % type(self).seen)
            self._transport.close()
            return
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.rpartition(b"Content-Length: ")[2]):
            return
        self._data = b""
        type(self).seen += 1
        if self._answered and self._way == WAYS[3]:
            self._transport.close()
        else:
            self._answer()

    def _answer(self) -> None:
        self._answered = True
        close = b"Connection: close\r\n" if self._way == _BASE else b""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(_BODY), close)
        self._transport.write(head + _BODY)
        if self._way in WAYS[1:3]:
            self._transport.close()


def _serve(way: str, pipe: Pipe) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Server(way), "127.0.0.1", 0, backlog=1024)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def _servers() -> Iterator[dict[str, int]]:
    context = multiprocessing.get_context("spawn")
    processes = []
    ports: dict[str, int] = {}
    try:
        for way in WAYS:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(way, theirs), daemon=True)
            process.start()
            processes.append(process)
            ports[way] = ours.recv()
        yield ports
    finally:
        for process in processes:
            process.terminate()
            process.join()


if __name__ == "__main__":
    main()
