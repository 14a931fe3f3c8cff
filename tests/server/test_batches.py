"""Batches: what may be asked for, what is refused in which words, and how they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch_gateway.service.statuses import BatchEvent
from tests.server.conftest import Start
from tests.server.running import Api

pytestmark = pytest.mark.anyio


def message(answer: Any, status: int = 400) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"code", "type", "message", "param"}
    assert (error["code"], error["param"]) == (None, None)
    return error["message"]


@pytest.mark.specified("batches.object", "batches.create")
async def test_a_new_batch_has_all_keys_of_its_object(api: Api) -> None:
    file_id = await api.upload()
    now = int(api.time())
    batch = (await api.submit(file_id)).json()
    assert batch.pop("id").startswith("batch_")
    empty = ["output_file_id", "error_file_id", "metadata", "errors", "usage"]
    ends = ["cancelled", "cancelling", "completed", "expired", "failed", "finalizing"]
    assert batch == {
        "object": "batch",
        "endpoint": "/v1/chat/completions",
        "input_file_id": file_id,
        "completion_window": "24h",
        "created_at": now,
        "expires_at": now + 86400,
        "status": "validating",
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "in_progress_at": None,
        **dict.fromkeys(empty),
        **{f"{end}_at": None for end in ends},
    }


@pytest.mark.specified("batches.create.required")
@pytest.mark.parametrize("name", ["input_file_id", "endpoint", "completion_window"])
@pytest.mark.parametrize("value", [None, "", "left out"])
async def test_what_is_required_is_named(api: Api, name: str, value: str | None) -> None:
    body = {"input_file_id": "file_1", "endpoint": "/v1/embeddings", "completion_window": "24h"}
    if value == "left out":
        del body[name]
    else:
        body[name] = value  # type: ignore[assignment]
    answer = await api.http.post("/v1/batches", json=body)
    assert message(answer) == f"{name} is required"


@pytest.mark.specified("batches.create.unknown_field")
async def test_a_field_that_nobody_knows_is_named(api: Api) -> None:
    assert message(await api.submit("file_1", bogus=1)) == 'json: unknown field "bogus"'
    inner = {"anchor": "created_at", "seconds": 3600, "more": 1}
    answer = await api.submit("file_1", output_expires_after=inner)
    assert message(answer) == 'json: unknown field "more"'


@pytest.mark.specified("batches.create.endpoint")
async def test_an_endpoint_is_one_of_those_that_are_offered(start: Start) -> None:
    async with start(allow_paths=["/v1/classify"]) as api:
        wrong = await api.submit(endpoint="/v1/other")
        assert message(wrong) == "invalid endpoint: /v1/other"
        assert (await api.submit(endpoint="/v1/embeddings")).status_code == 200
        assert (await api.submit(endpoint="/v1/classify")).status_code == 200


@pytest.mark.specified("batches.create.window")
@pytest.mark.parametrize(
    ("window", "seconds"), [("24h", 86400), ("1h30m", 5400), ("1.5h", 5400), ("+90s", 90)]
)
async def test_a_window_is_a_duration_of_go(api: Api, window: str, seconds: int) -> None:
    batch = (await api.submit(completion_window=window)).json()
    assert batch["completion_window"] == window
    assert batch["expires_at"] == batch["created_at"] + seconds


@pytest.mark.specified("batches.create.window")
async def test_a_window_of_less_than_a_second_ends_in_the_second_it_began(api: Api) -> None:
    batch = (await api.submit(completion_window="500ms")).json()
    assert batch["expires_at"] == batch["created_at"]


@pytest.mark.specified("batches.create.window")
@pytest.mark.parametrize(
    "window",
    ["24", "h", "24 h", " 24h", "1d", "24H", "1e3s", "\u0662h", "9" * 5000 + "h", "24h\0", "nan"],
)
async def test_a_window_that_is_no_duration_is_refused(api: Api, window: str) -> None:
    answer = await api.submit("file_1", completion_window=window)
    assert message(answer) == "completion_window must be a valid duration (e.g., 24h)"


@pytest.mark.specified("batches.create.window_range")
async def test_a_window_is_positive_and_within_what_is_configured(start: Start) -> None:
    async with start(max_completion_window="48h") as api:
        for window in ("0", "0s", "-1h", "-24h"):
            answer = await api.submit("file_1", completion_window=window)
            assert message(answer) == "completion_window must be more than zero"
        answer = await api.submit("file_1", completion_window="9000h")
        assert message(answer) == "completion_window must be at most 48h00m"
        assert (await api.submit(completion_window="48h")).status_code == 200


@pytest.mark.specified("batches.create.metadata")
@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({str(n): "v" for n in range(17)}, "metadata: too many keys (max 16, got 17)"),
        ({"k" * 65: "v"}, "metadata: key exceeds 64 characters"),
        ({"K": "v" * 513}, 'metadata: value for key "K" exceeds 512 characters'),
        ({"K": 1}, 'metadata: value for key "K" must be a string'),
        ({"K": None}, 'metadata: value for key "K" must be a string'),
        ([], "metadata must be an object"),
        ("x", "metadata must be an object"),
    ],
)
async def test_metadata_has_its_limits(api: Api, metadata: object, problem: str) -> None:
    assert message(await api.submit("file_1", metadata=metadata)) == problem


@pytest.mark.specified("batches.create.metadata", "never.500")
@pytest.mark.parametrize(
    "metadata",
    [
        {str(n): "v" for n in range(16)},
        {"\u00fc" * 64: "\U0001f600" * 512},
        {"nul": "a\0b", "": "", "z": "1", "a": "2"},
        {},
    ],
)
async def test_metadata_comes_back_as_it_was(api: Api, metadata: dict[str, str]) -> None:
    batch = (await api.submit(metadata=metadata)).json()
    shown = (await api.http.get(f"/v1/batches/{batch['id']}")).json()["metadata"]
    assert list(shown.items()) == list(metadata.items())


@pytest.mark.specified("batches.create.output_expires_after")
async def test_results_may_be_kept_for_an_hour_to_thirty_days(api: Api) -> None:
    async def ask(anchor: object = "created_at", seconds: object = 3600) -> Any:
        return await api.submit(output_expires_after={"anchor": anchor, "seconds": seconds})

    for seconds in (3600, 2592000):
        assert (await ask(seconds=seconds)).status_code == 200
    assert (await api.submit(output_expires_after=None)).status_code == 200
    for anchor in ("now", None, 1):
        assert message(await ask(anchor)) == "output_expires_after.anchor must be 'created_at'"
    for seconds in (3599, 2592001, -1, 0, 1e9, "3600", None, True, 10**30):
        assert message(await ask(seconds=seconds)) == (
            "output_expires_after.seconds must be between 3600 (1 hour) and 2592000 (30 days)"
        )
    answer = await api.submit("file_1", output_expires_after=[1])
    assert message(answer) == "output_expires_after must be an object"


@pytest.mark.specified("batches.create.input_file")
async def test_the_input_must_be_there_and_for_a_batch(api: Api) -> None:
    for missing in ("file_X", "X", "../x", "a\0b", "x" * 5000):
        assert message(await api.submit(missing)) == f"Input file with ID '{missing}' not found"
    file_id = await api.upload(purpose="vision")
    assert message(await api.submit(file_id)) == (
        f"Input file '{file_id}' has purpose 'vision', but must have purpose 'batch'"
    )
    file_id = await api.upload()
    await api.http.delete(f"/v1/files/{file_id}")
    assert message(await api.submit(file_id)) == f"Input file with ID '{file_id}' not found"
    expired = await api.upload()
    api.time.seconds += 91 * 86400
    assert message(await api.submit(expired)) == f"Input file with ID '{expired}' not found"


@pytest.mark.specified("batches.create.body", "never.500")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"{",
        b"\xff",
        b'{"endpoint":"\\ud800"}',
        b'{"a":' * 100_000,
        b'{"metadata":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"input_file_id":1e999}',
        b'{"input_file_id":' + b"9" * 100_000 + b"}",
        b'{"input_file_id":["x"],"endpoint":1}',
        b'{"input_file_id":NaN}',
    ],
)
async def test_a_body_that_is_not_what_it_should_be_is_refused(api: Api, body: bytes) -> None:
    answer = await api.http.post("/v1/batches", content=body)
    assert message(answer)


@pytest.mark.specified("batches.create.body")
async def test_a_body_may_begin_with_a_mark_and_is_utf_8(api: Api) -> None:
    assert message(await api.http.post("/v1/batches", content=b'\xef\xbb\xbf{"endpoint":"x"}')) == (
        "input_file_id is required"
    )
    assert message(await api.http.post("/v1/batches", content=b'{"endpoint":"\xff"}')) == (
        "the request body is not valid JSON: it is not UTF-8"
    )


@pytest.mark.specified("batches.create.body")
async def test_a_body_that_is_too_large_is_refused_while_it_is_read(api: Api) -> None:
    answer = await api.http.post("/v1/batches", content=b" " * 5_000_000)
    assert message(answer, 413) == "the request body exceeds 1048576 bytes"


@pytest.mark.specified("batches.cancel")
async def test_what_can_be_cancelled_depends_on_the_status(api: Api) -> None:
    async def cancel(batch_id: str) -> Any:
        return await api.http.post(f"/v1/batches/{batch_id}/cancel")

    waiting = (await api.submit()).json()["id"]
    assert (await cancel(waiting)).json()["status"] == "cancelled"
    assert (await cancel(waiting)).json()["status"] == "cancelled"

    running = (await api.submit()).json()["id"]
    await api.happen(running, BatchEvent.VALID, total=1)
    first = (await cancel(running)).json()
    assert (first["status"], first["cancelling_at"]) == ("cancelling", int(api.time()))
    api.time.seconds += 5
    assert (await cancel(running)).json() == first
    await api.happen(running, BatchEvent.WRITTEN)
    ended = (await cancel(running)).json()
    assert (ended["status"], ended["cancelled_at"]) == ("cancelled", int(api.time()))
    assert ended["cancelling_at"] == first["cancelling_at"]

    finalizing = (await api.submit()).json()["id"]
    await api.happen(finalizing, BatchEvent.VALID)
    await api.happen(finalizing, BatchEvent.ALL_DONE)
    answer = await cancel(finalizing)
    assert message(answer) == "Batch with status finalizing cannot be cancelled"
    await api.happen(finalizing, BatchEvent.WRITTEN)
    assert message(await cancel(finalizing)) == "Batch with status completed cannot be cancelled"

    bad = (await api.submit()).json()["id"]
    await api.happen(bad, BatchEvent.INVALID)
    assert message(await cancel(bad)) == "Batch with status failed cannot be cancelled"


@pytest.mark.specified("batches.cancel")
async def test_a_batch_whose_window_is_over_is_shown_in_progress_until_it_has_expired(
    api: Api,
) -> None:
    batch_id = (await api.submit()).json()["id"]
    await api.happen(batch_id, BatchEvent.VALID)
    await api.happen(batch_id, BatchEvent.EXPIRE)
    cancelled = await api.http.post(f"/v1/batches/{batch_id}/cancel")
    assert cancelled.json()["status"] == "in_progress"
    await api.happen(batch_id, BatchEvent.WRITTEN)
    batch = (await api.http.get(f"/v1/batches/{batch_id}")).json()
    assert (batch["status"], batch["expired_at"]) == ("expired", int(api.time()))


@pytest.mark.specified("batches.not_found")
@pytest.mark.parametrize("batch_id", ["batch_1", "1", "%00", "%ff", "a%20b", "x" * 3000])
async def test_a_batch_that_is_not_there_is_404(api: Api, batch_id: str) -> None:
    for answer in (
        await api.http.get(f"/v1/batches/{batch_id}"),
        await api.http.post(f"/v1/batches/{batch_id}/cancel"),
    ):
        assert message(answer, 404).startswith("Batch with ID ")
        assert answer.json()["error"]["type"] == "not_found_error"


@pytest.mark.specified("limits.tenant")
async def test_a_tenant_has_so_many_batches_under_way(start: Start) -> None:
    async with start(max_batches=2) as api:
        file_id = await api.upload()
        answers = await asyncio.gather(*(api.submit(file_id) for _ in range(6)))
        assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 4
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.json()["error"]["type"] == "rate_limit_error"
        assert (await api.submit(headers={"X-MaaS-Username": "other"})).status_code == 200
        done = next(answer.json()["id"] for answer in answers if answer.status_code == 200)
        await api.http.post(f"/v1/batches/{done}/cancel")
        assert (await api.submit(file_id)).status_code == 200


@pytest.mark.specified("batches.retention")
async def test_a_batch_is_shown_for_as_long_after_its_end_as_is_set(start: Start) -> None:
    async with start() as api:
        api.time.seconds -= 3600
        young, waiting, old = [(await api.submit()).json()["id"] for _ in range(3)]
        await api.http.post(f"/v1/batches/{old}/cancel")
        api.time.seconds += 3600
        await api.http.post(f"/v1/batches/{young}/cancel")
    async with start(batch_lifetime="1h") as api:
        assert (await api.http.get(f"/v1/batches/{old}")).status_code == 200
    async with start(batch_lifetime="59m") as api, asyncio.timeout(60):
        while (await api.http.get(f"/v1/batches/{old}")).status_code != 404:
            await asyncio.sleep(0.01)
        listed = (await api.http.get("/v1/batches")).json()["data"]
        assert [one["id"] for one in listed] == [waiting, young]
