"""Two gateways, one of them sick, in real time: `python -m benchmarks.worlds.two_gateways`.

The command sends a file whose lines alternate between the models of two gateways. One gateway is
healthy; the other takes half a minute for every request and then answers 500. What the healthy one
got done is compared with a run that has only its lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig
from benchmarks.tables import Aim, print_aims, print_table, write_json
from benchmarks.worlds.realtime import SERVER

_LINES = 20_000
_SICK_SECONDS = 30.0
_START = 30.0
_AIM = 0.95


async def measure(seconds: float, *, sick: bool) -> int:
    """Answers of the healthy gateway within `seconds` of its first."""
    async with SimulatedGateway(SimulatorConfig(**SERVER)) as healthy, _sick_gateway() as url:
        models = {"healthy": healthy.url, **({"sick": url} if sick else {})}
        with tempfile.TemporaryDirectory() as folder:
            process = await _start(Path(folder), models)
            try:
                return await _count(healthy, seconds)
            finally:
                process.send_signal(signal.SIGKILL)
                await process.wait()


async def _start(folder: Path, models: dict[str, str]) -> asyncio.subprocess.Process:
    with (folder / "requests.jsonl").open("w", encoding="utf-8") as file:
        for number in range(_LINES):
            for model in models:
                file.write(_line(number, model))
    gateways = [f"--model-gateway={model}={url}" for model, url in models.items()]
    command = [sys.executable, "-m", "batch_gateway", "run", "requests.jsonl", *gateways]
    return await asyncio.create_subprocess_exec(*command, "--quiet", cwd=folder)


def _line(number: int, model: str) -> str:
    messages = [{"role": "user", "content": f"question {number}"}]
    body = {"model": model, "max_tokens": 256, "messages": messages}
    line = {
        "custom_id": f"{model}-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
    }
    return json.dumps(line) + "\n"


async def _count(gateway: SimulatedGateway, seconds: float) -> int:
    async with asyncio.timeout(_START):
        while not gateway.journal.by_status.get(200):  # noqa: ASYNC110 - the journal tells nobody
            await asyncio.sleep(0.01)
    await asyncio.sleep(seconds)
    return gateway.journal.by_status[200]


@asynccontextmanager
async def _sick_gateway() -> AsyncGenerator[str]:
    server = await asyncio.start_server(_answer_late, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = (line.partition(b":") for line in head.lower().split(b"\r\n"))
            length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
            await reader.readexactly(length)
            await asyncio.sleep(_SICK_SECONDS)
            writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    alone = asyncio.run(measure(seconds, sick=False))
    beside = asyncio.run(measure(seconds, sick=True))
    share = round(beside / alone, 4)
    rows = [["alone", str(alone), ""], ["beside a sick one", str(beside), f"{share:.3f}"]]
    print_table(f"answers of the healthy gateway in {seconds:g} s", ["", "answers", "share"], rows)
    aims = [Aim("two gateways: share of the healthy one alone", share, _AIM, True)]
    print_aims(aims)
    figures = {"alone": alone, "beside a sick one": beside, "seconds": seconds}
    write_json("worlds-two-gateways", figures, aims)


if __name__ == "__main__":
    main()
