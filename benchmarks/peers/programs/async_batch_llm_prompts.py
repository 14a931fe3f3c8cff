"""async-batch-llm: `process_prompts` with the store that it goes on from."""

from __future__ import annotations

import asyncio

from async_batch_llm import (
    ArtifactIdentity,
    JsonlArtifactStore,
    ProcessorConfig,
    ResumePolicy,
    llm,
    process_prompts,
)
from task import MODEL, Task


async def main(task: Task) -> None:
    batch = await process_prompts(
        llm(f"openai-compatible:{MODEL}", base_url=f"{task.gateway}/v1", api_key="none"),
        task.prompts,
        config=ProcessorConfig(concurrency=task.concurrency),
        artifact_store=JsonlArtifactStore(
            task.folder / "own.jsonl", identity=ArtifactIdentity(provider="gateway", model=MODEL)
        ),
        resume=ResumePolicy.REUSE_SUCCESSES,
    )
    task.finish((one.item_id, one.output if one.success else None) for one in batch.results)


asyncio.run(main(Task.parse()))
