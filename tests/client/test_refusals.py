"""What a client makes of a refusal: how long it is to wait, and what the refusal is about."""

from __future__ import annotations

import json

import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.headers import Headers
from tests.client.one_answer import failure
from tests.picker.pod import running_pod, whole

RETRY_INFO = {
    "error": {
        "code": 429,
        "status": "RESOURCE_EXHAUSTED",
        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "39s"}],
    }
}
OPENAI = {"error": {"message": "Rate limit reached for m. Please try again in 6m0s."}}
USED_UP = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "17s"}
NOT_USED_UP = {"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "17s"}


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {}, RETRY_INFO, 39),
        (429, {}, [RETRY_INFO], 39),
        (503, {}, OPENAI, 360),
        (429, {"Retry-After": "1m30s"}, RETRY_INFO, 90),
        (429, {"Retry-After": "0"}, RETRY_INFO, 39),
        (429, {"Retry-After": "Mon, 01 Jan 2024 00:00:00 GMT"}, {}, None),
        (429, {"retry-after-ms": "0"}, {}, None),
        (429, USED_UP, {}, 17),
        (429, USED_UP, OPENAI, 360),
        (429, USED_UP | {"Retry-After": "5"}, {}, 5),
        (429, USED_UP | {"Retry-After": "0"}, {}, 17),
        (429, NOT_USED_UP, {}, None),
        (503, USED_UP, {}, None),
        (200, {}, {"error": {"code": 429, "message": "Please try again in 20s."}}, 20),
    ],
)
def test_a_refusal_is_waited_for_as_long_as_it_says(
    status: int, headers: dict[str, str], body: object, seconds: float | None
) -> None:
    response = HTTPResponse(status, Headers.of(headers), json.dumps(body).encode())
    assert failure(response).retry_after == seconds


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "error", "narrower"),
    [
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota."}, False),
        (429, {"message": "Rate limit reached on tokens per day (TPD)."}, False),  # Groq
        (402, {"message": "Insufficient Balance"}, False),  # DeepSeek
        (200, {"code": 429, "message": "Free tier: daily limit reached."}, False),
        (429, {"message": "Rate limit reached for requests."}, True),
        (200, {"code": 429, "message": "Rate limit reached for requests."}, True),
    ],
)
async def test_only_a_refusal_that_room_would_help_narrows_the_limit(
    status: int, error: dict[str, object], narrower: bool
) -> None:
    body = json.dumps({"error": error}).encode()
    pace = AdaptiveConcurrency(initial=8)
    async with running_pod(whole(body, status)) as pod:
        config = HTTPInferenceClientConfig(f"http://{pod.endpoint}", retry=None, concurrency=pace)
        async with HTTPInferenceClient(config) as client:
            with pytest.raises(InferenceError):
                await client.generate(InferenceRequest(params={"model": "m", "prompt": "Hi"}))
            limit = client.concurrency_limit
    assert limit is not None
    assert (limit < 8) == narrower
