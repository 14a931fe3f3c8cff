"""flexllm, a public batch client with resume: its `chat_batch` over the messages of the file."""

# pyright: reportMissingImports=false
from __future__ import annotations

from typing import Any

import orjson
import uvloop
from flexllm import LLMClient

from benchmarks.loops.arguments import Arguments


async def _run(arguments: Arguments) -> None:
    bodies: list[dict[str, Any]] = [
        orjson.loads(line)["body"] for line in arguments.input.read_bytes().splitlines()
    ]
    client = LLMClient(
        provider="openai",
        base_url=f"{arguments.gateway}/v1",
        model=bodies[0]["model"],
        api_key="none",
        concurrency_limit=arguments.concurrency,
    )
    await client.chat_batch(
        [body["messages"] for body in bodies],
        output_jsonl=str(arguments.output),
        show_progress=False,
        max_tokens=bodies[0]["max_tokens"],
    )


if __name__ == "__main__":
    uvloop.run(_run(Arguments.parse()))
