"""flexllm: `LLMClient.chat_batch` with the file that it goes on from."""

from __future__ import annotations

import asyncio

from flexllm import LLMClient
from task import MODEL, Task


async def main(task: Task) -> None:
    client = LLMClient(
        provider="openai",
        base_url=f"{task.gateway}/v1",
        model=MODEL,
        api_key="none",
        concurrency_limit=task.concurrency,
    )
    results = await client.chat_batch(
        [[{"role": "user", "content": prompt}] for _, prompt in task.prompts],
        output_jsonl=str(task.folder / "own.jsonl"),
        show_progress=False,
    )
    texts = (result.content if result.ok else None for result in results)
    task.finish(zip((name for name, _ in task.prompts), texts, strict=True))


asyncio.run(main(Task.parse()))
