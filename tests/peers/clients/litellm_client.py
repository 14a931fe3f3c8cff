"""litellm, blocking and async: drives the API once through, and prints what it saw as JSON.

Arguments: base URL, API key. requests.jsonl and held.jsonl are in the working folder.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

litellm: Any = importlib.import_module("litellm")

NAME = "requests.jsonl"
REQUESTS = Path(NAME).read_bytes()
BATCH = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
WAYS: list[Callable[[], Any]] = [
    lambda: Path(NAME).open("rb"),  # noqa: SIM115 - as most people do it
    lambda: (NAME, REQUESTS),
    lambda: REQUESTS,
]


def ours(url: str, key: str) -> dict[str, Any]:
    return {"custom_llm_provider": "openai", "api_base": url, "api_key": key, "max_retries": 0}


def upload(to: dict[str, Any]) -> list[str]:
    ids: list[str] = []
    for way in WAYS:
        file = litellm.create_file(file=way(), purpose="batch", **to)
        assert litellm.file_content(file_id=file.id, **to).content == REQUESTS
        assert litellm.file_retrieve(file_id=file.id, **to).bytes == len(REQUESTS)
        ids.insert(0, file.id)
    assert [file.id for file in litellm.file_list(**to)] == ids
    return ids


def run(file_id: str, to: dict[str, Any]) -> dict[str, Any]:
    batch = litellm.create_batch(input_file_id=file_id, **BATCH, **to)
    while not (batch.completed_at or batch.failed_at):
        time.sleep(0.05)
        batch = litellm.retrieve_batch(batch_id=batch.id, **to)
    return {
        "batch": batch.model_dump(),
        "output": litellm.file_content(file_id=batch.output_file_id, **to).text,
        "errors": litellm.file_content(file_id=batch.error_file_id, **to).text,
    }


async def cancel(to: dict[str, Any]) -> dict[str, Any]:
    file = await litellm.acreate_file(file=Path("held.jsonl"), purpose="batch", **to)
    batch = await litellm.acreate_batch(input_file_id=file.id, **BATCH, **to)

    async def until(is_there: Callable[[Any], object]) -> Any:
        while not is_there(now := await litellm.aretrieve_batch(batch_id=batch.id, **to)):
            await asyncio.sleep(0.05)
        return now

    await until(lambda now: now.request_counts.completed == 2)
    await litellm.acancel_batch(batch_id=batch.id, **to)
    ended = await until(lambda now: now.cancelled_at)
    return {
        "batch": ended.model_dump(),
        "output": (await litellm.afile_content(file_id=ended.output_file_id, **to)).text,
        "errors": (await litellm.afile_content(file_id=ended.error_file_id, **to)).text,
    }


def batches(to: dict[str, Any]) -> list[str]:
    first = litellm.list_batches(limit=1, **to)
    then = litellm.list_batches(limit=1, after=first.last_id, **to)
    assert not then.has_more
    return [batch.id for page in (first, then) for batch in page.data]


def refusal(call: Callable[..., Any], **asked: Any) -> list[Any]:
    try:
        call(**asked)
    except litellm.exceptions.openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, str(error)]
    raise AssertionError("was taken")


def main(url: str, key: str) -> None:
    to = ours(url, key)
    file_id, *others = upload(to)
    completed, cancelled = run(file_id, to), asyncio.run(cancel(to))
    deleted = [litellm.file_delete(file_id=other, **to).deleted for other in others]
    over = completed["batch"]["id"]
    refusals = {
        "file": refusal(litellm.file_retrieve, file_id=others[0], **to),
        "batch": refusal(litellm.retrieve_batch, batch_id="batch_none", **to),
        "purpose": refusal(litellm.create_file, file=REQUESTS, purpose="none", **to),
        "over": refusal(litellm.cancel_batch, batch_id=over, **to),
        "key": refusal(litellm.list_batches, **ours(url, "wrong")),
    }
    seen = {"completed": completed, "cancelled": cancelled, "batches": batches(to)}
    print(json.dumps({**seen, "allDeleted": all(deleted), "refusals": refusals}))


if __name__ == "__main__":
    main(*sys.argv[1:])
