"""The loop that people write first: aiohttp, a semaphore, gather; no retries and no resume.

JSON by orjson and uvloop where it helps, so that the comparison is with a good one.
"""

from __future__ import annotations

import asyncio
from typing import Any, BinaryIO

import aiohttp
import orjson
import uvloop

from benchmarks.loops.arguments import Arguments


async def _answer(
    session: aiohttp.ClientSession,
    gateway: str,
    line: bytes,
    semaphore: asyncio.Semaphore,
    output: BinaryIO,
) -> None:
    request: dict[str, Any] = orjson.loads(line)
    async with (
        semaphore,
        session.post(gateway + request["url"], data=orjson.dumps(request["body"])) as response,
    ):
        body = orjson.loads(await response.read())
    result = {
        "custom_id": request["custom_id"],
        "response": {"status_code": response.status, "body": body},
        "error": None,
    }
    output.write(orjson.dumps(result) + b"\n")


async def _run(arguments: Arguments) -> None:
    semaphore = asyncio.Semaphore(arguments.concurrency)
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=0)
    lines = arguments.input.read_bytes().splitlines()
    with arguments.output.open("wb") as output:
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
            await asyncio.gather(
                *(_answer(session, arguments.gateway, line, semaphore, output) for line in lines)
            )


if __name__ == "__main__":
    uvloop.run(_run(Arguments.parse()))
