"""The loop of the tutorials: AsyncOpenAI, a semaphore, gather."""

# pyright: reportMissingImports=false
from __future__ import annotations

import asyncio
import json
from typing import Any, TextIO

import openai
import uvloop

from benchmarks.loops.arguments import Arguments


async def _answer(
    client: openai.AsyncOpenAI, line: str, semaphore: asyncio.Semaphore, output: TextIO
) -> None:
    request: dict[str, Any] = json.loads(line)
    async with semaphore:
        answer = await client.chat.completions.create(**request["body"])
    result = {"custom_id": request["custom_id"], "response": {"body": answer.model_dump()}}
    output.write(json.dumps(result) + "\n")


async def _run(arguments: Arguments) -> None:
    semaphore = asyncio.Semaphore(arguments.concurrency)
    lines = arguments.input.read_text("utf-8").splitlines()
    with arguments.output.open("w", encoding="utf-8") as output:
        async with openai.AsyncOpenAI(base_url=f"{arguments.gateway}/v1", api_key="none") as client:
            await asyncio.gather(*(_answer(client, line, semaphore, output) for line in lines))


if __name__ == "__main__":
    uvloop.run(_run(Arguments.parse()))
