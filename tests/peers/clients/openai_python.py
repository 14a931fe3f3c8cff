"""The openai package for Python: drives the API once through, and prints what it saw as JSON.

Arguments: base URL, API key. requests.jsonl and held.jsonl are in the working folder.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai

NAME = "requests.jsonl"
REQUESTS = Path(NAME).read_bytes()
WAYS: list[Callable[[], Any]] = [
    lambda: Path(NAME).open("rb"),  # noqa: SIM115 - as most people do it
    lambda: Path(NAME),
    lambda: (NAME, REQUESTS),
    lambda: (NAME, io.BytesIO(REQUESTS), "application/jsonl", {"X-Anything": "at all"}),
    lambda: REQUESTS,
]


async def upload(client: openai.AsyncOpenAI) -> list[str]:
    ids: list[str] = []
    for way in WAYS:
        file = await client.files.create(file=way(), purpose="batch")
        assert (await client.files.content(file.id)).content == REQUESTS
        assert await client.files.retrieve(file.id) == file
        ids.insert(0, file.id)
    assert [file.id async for file in client.files.list()] == ids
    return ids


async def submit(client: openai.AsyncOpenAI, file_id: str) -> str:
    batch = await client.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    return batch.id


async def until(
    client: openai.AsyncOpenAI, batch_id: str, is_there: Callable[[Any], object]
) -> Any:
    while not is_there(batch := await client.batches.retrieve(batch_id)):
        await asyncio.sleep(0.05)
    return batch


async def results(client: openai.AsyncOpenAI, batch_id: str) -> dict[str, Any]:
    ends = ("completed_at", "cancelled_at", "failed_at")
    batch = await until(client, batch_id, lambda now: any(getattr(now, end) for end in ends))

    async def text(file_id: str | None) -> str:
        return (await client.files.content(file_id)).text if file_id else ""

    output, errors = await text(batch.output_file_id), await text(batch.error_file_id)
    return {"batch": batch.model_dump(), "output": output, "errors": errors}


async def refusal(call: Any) -> list[Any]:
    try:
        await call
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.message]
    raise AssertionError("was taken")


async def main(url: str, key: str) -> None:
    async with (
        openai.AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client,
        openai.AsyncOpenAI(base_url=url, api_key="wrong", max_retries=0) as stranger,
    ):
        file_id, *others = await upload(client)
        completed = await results(client, await submit(client, file_id))
        held = await client.files.create(file=Path("held.jsonl"), purpose="batch")
        held_id = await submit(client, held.id)
        await until(client, held_id, lambda now: now.request_counts.completed == 2)
        await client.batches.cancel(held_id)
        cancelled = await results(client, held_id)
        batches = [batch.id async for batch in client.batches.list(limit=1)]
        deleted = [(await client.files.delete(other)).deleted for other in others]
        bad: Any = "none"
        refusals = {
            "file": await refusal(client.files.retrieve(others[0])),
            "batch": await refusal(client.batches.retrieve("batch_none")),
            "purpose": await refusal(client.files.create(file=REQUESTS, purpose=bad)),
            "over": await refusal(client.batches.cancel(completed["batch"]["id"])),
            "key": await refusal(stranger.files.list()),
        }
    seen = {"completed": completed, "cancelled": cancelled, "batches": batches}
    print(json.dumps({**seen, "allDeleted": all(deleted), "refusals": refusals}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
