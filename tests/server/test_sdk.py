"""The `openai` SDK, as it is, against the API."""

from __future__ import annotations

import asyncio

import openai
import pytest

from batch_gateway.service.statuses import BatchEvent
from tests.server.running import LINE, Api

pytestmark = pytest.mark.anyio


@pytest.mark.specified("sdk.files")
async def test_a_file_is_uploaded_shown_listed_downloaded_and_deleted(api: Api) -> None:
    sdk = api.sdk()
    file = await sdk.files.create(file=("in.jsonl", LINE * 3), purpose="batch")
    assert (file.object, file.bytes, file.filename) == ("file", len(LINE) * 3, "in.jsonl")
    assert (file.purpose, file.status) == ("batch", "uploaded")
    assert file.created_at == int(api.time())
    assert file.expires_at == int(api.time()) + 90 * 86400
    assert await sdk.files.retrieve(file.id) == file
    assert [found async for found in sdk.files.list()] == [file]
    assert (await sdk.files.content(file.id)).content == LINE * 3
    deleted = await sdk.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    with pytest.raises(openai.NotFoundError, match=f"File with ID {file.id} not found"):
        await sdk.files.retrieve(file.id)
    assert api.stored() == []


@pytest.mark.specified("sdk.batches")
async def test_a_batch_is_made_shown_listed_and_cancelled(api: Api) -> None:
    sdk = api.sdk()
    file = await sdk.files.create(file=("in.jsonl", LINE), purpose="batch")
    batch = await sdk.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"team": "a", "note": "ü"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (batch.object, batch.status) == ("batch", "validating")
    assert batch.metadata == {"team": "a", "note": "ü"}
    assert batch.expires_at == int(api.time()) + 86400
    assert api.added == [batch.id]
    assert await sdk.batches.retrieve(batch.id) == batch
    assert [found async for found in sdk.batches.list()] == [batch]
    cancelled = await sdk.batches.cancel(batch.id)
    assert (cancelled.status, cancelled.cancelled_at) == ("cancelled", int(api.time()))
    assert await sdk.batches.cancel(batch.id) == cancelled
    assert api.cancelled == [batch.id]


@pytest.mark.specified("sdk.files")
async def test_lists_of_more_than_a_page_come_to_their_end(api: Api) -> None:
    sdk = api.sdk()
    files = [await sdk.files.create(file=("f", b"x"), purpose="vision") for _ in range(7)]
    ids = [file.id for file in files]
    assert [found.id async for found in sdk.files.list(limit=3)] == ids[::-1]
    assert [found.id async for found in sdk.files.list(limit=2, order="asc")] == ids
    assert [found.id async for found in sdk.files.list(purpose="batch")] == []
    seen: list[str] = []
    async for found in sdk.files.list(limit=2):
        await sdk.files.delete(found.id)
        seen.append(found.id)
    assert seen == ids[::-1]
    batches = [(await api.submit()).json()["id"] for _ in range(5)]
    assert [found.id async for found in sdk.batches.list(limit=2)] == batches[::-1]


@pytest.mark.specified("sdk.files")
async def test_the_blocking_sdk_works_as_well(api: Api) -> None:
    def drive() -> tuple[bytes, list[str]]:
        with openai.OpenAI(base_url=f"{api.url}/v1", api_key="k", max_retries=0) as sdk:
            file = sdk.files.create(file=b"some bytes", purpose="user_data")
            content = sdk.files.content(file.id).read()
            return content, [found.filename for found in sdk.files.list()]

    assert await asyncio.to_thread(drive) == (b"some bytes", ["upload"])


@pytest.mark.specified("sdk.batches")
async def test_a_batch_that_ran_shows_its_counts_usage_model_errors_and_files(api: Api) -> None:
    sdk = api.sdk()
    batch = (await api.submit()).json()
    await api.happen(batch["id"], BatchEvent.VALID, total=3, model="m", notice="waiting for m")
    running = await sdk.batches.retrieve(batch["id"])
    assert (running.status, running.model) == ("in_progress", "m")
    assert running.in_progress_at == int(api.time())
    assert running.to_dict()["notice"] == "waiting for m"
    await api.happen(batch["id"], BatchEvent.ALL_DONE, completed=2, failed=1, notice=None)
    await api.happen(
        batch["id"], BatchEvent.WRITTEN, output_file_id="file_o", input_tokens=5, output_tokens=7
    )
    done = await sdk.batches.retrieve(batch["id"])
    assert (done.status, done.output_file_id, done.error_file_id) == ("completed", "file_o", None)
    assert done.request_counts is not None
    assert done.request_counts.to_dict() == {"total": 3, "completed": 2, "failed": 1}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.total_tokens) == (5, 12)

    bad = (await api.submit()).json()
    problems = '[{"code":"empty_file","message":"nothing is in it","param":null,"line":null}]'
    await api.happen(bad["id"], BatchEvent.INVALID, errors=problems)
    failed = await sdk.batches.retrieve(bad["id"])
    assert failed.errors is not None
    assert failed.errors.data is not None
    assert [problem.code for problem in failed.errors.data] == ["empty_file"]


async def test_errors_are_the_exceptions_that_the_sdk_has_for_them(api: Api) -> None:
    sdk = api.sdk()
    with pytest.raises(openai.NotFoundError, match="Batch with ID batch_1 not found"):
        await sdk.batches.retrieve("batch_1")
    with pytest.raises(openai.BadRequestError, match="Input file with ID 'file_1' not found") as e:
        await sdk.batches.create(
            input_file_id="file_1", endpoint="/v1/embeddings", completion_window="24h"
        )
    assert e.value.type == "invalid_request_error"
    assert (e.value.code, e.value.param) == (None, None)
