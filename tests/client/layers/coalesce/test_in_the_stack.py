"""Joined requests through retries, breaker and rate limit, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import (
    CircuitBreakerPolicy,
    CoalescePolicy,
    DeadlineExceededError,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RateLimit,
    RequestTimeoutError,
    RetryPolicy,
)
from batch_gateway.client.client import build_stack
from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.prepare import prepare
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.headers import Headers
from tests.client.posting_only import PostingOnly
from tests.virtual_time import LoopClock, run_in_virtual_time

MAX_RETRIES = 2


@dataclass
class Embedder(PostingOnly):
    """Answers lists and single inputs after a while; statuses come from a script."""

    script: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        self.sendings = 0
        self.in_flight = 0

    async def post(
        self, path: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: float
    ) -> HTTPResponse:
        status, latency = self.script[self.sendings % len(self.script)]
        self.sendings += 1
        given = json.loads(body)["input"]
        inputs: list[str] = given if isinstance(given, list) else [given]
        self.in_flight += 1
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(latency)
        except TimeoutError as error:
            raise RequestTimeoutError("did not answer in time", cause=error) from error
        finally:
            self.in_flight -= 1
        if any(text.startswith("bad") for text in inputs):
            status = 400
        if status != 200:
            return HTTPResponse(status, Headers(), b'{"error":{"message":"no"}}')
        data = [{"index": i, "embedding": [text]} for i, text in enumerate(inputs)]
        return HTTPResponse(200, Headers(), msgspec.json.encode({"data": data}))


@dataclass(frozen=True)
class Asked:
    """One request: when it comes, whether it is a bad one, its patience in seconds."""

    at: float
    is_bad: bool
    deadline: float | None
    cancelled_after: float | None


ASKED = st.builds(
    Asked,
    at=st.floats(0, 1),
    is_bad=st.sampled_from([False, False, False, True]),
    deadline=st.none() | st.floats(0.5, 30),
    cancelled_after=st.none() | st.none() | st.floats(0, 5),
)
SCRIPT = st.lists(
    st.tuples(st.sampled_from([200, 200, 200, 500, 503, 429]), st.floats(0.001, 2)),
    min_size=1,
    max_size=20,
)


async def play(asked: Sequence[Asked], embedder: Embedder, size: int) -> None:
    config = HTTPInferenceClientConfig(
        timeout=10,
        coalesce=CoalescePolicy(size, max_wait=0.05),
        retry=RetryPolicy(max_retries=MAX_RETRIES),
        circuit_breaker=CircuitBreakerPolicy(minimum_requests=5),
        rate_limit=RateLimit(requests_per_minute=6000),
    )
    clock = LoopClock()
    stack = build_stack(config, embedder, clock, GatewayEvents("gateway"))
    loop = asyncio.get_running_loop()
    ended_at: dict[int, float] = {}

    async def ask(number: int, one: Asked) -> InferenceResponse:
        await asyncio.sleep(one.at)
        text = f"{'bad' if one.is_bad else 'good'} {number}"
        request = InferenceRequest(
            params={"model": "m", "input": text},
            request_id=f"r{number}",
            endpoint="/v1/embeddings",
            deadline=one.deadline,
        )
        try:
            return await stack.send(prepare(request, clock))
        finally:
            ended_at[number] = loop.time() - one.at

    tasks = [asyncio.create_task(ask(number, one)) for number, one in enumerate(asked)]
    for task, one in zip(tasks, asked, strict=True):
        if one.cancelled_after is not None:
            loop.call_later(one.at + one.cancelled_after, task.cancel)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10_000)
    for number, (one, end) in enumerate(zip(asked, ends, strict=True)):
        _check(number, one, end)
        if one.deadline is not None and number in ended_at:
            assert ended_at[number] <= one.deadline + 0.01
    await asyncio.sleep(0.1)
    assert embedder.in_flight == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


def _check(number: int, one: Asked, end: object) -> None:
    if isinstance(end, InferenceResponse):
        assert not one.is_bad
        assert end.request_id == f"r{number}"
        assert end.json()["data"] == [{"index": 0, "embedding": [f"good {number}"]}]
    elif isinstance(end, InferenceError):
        assert end.request_id == f"r{number}"
        assert one.is_bad or not isinstance(end, InvalidRequestError)
        assert one.deadline is not None or not isinstance(end, DeadlineExceededError)
    else:
        assert isinstance(end, asyncio.CancelledError)
        assert one.cancelled_after is not None
    if isinstance(end, InferenceResponse | InferenceError):
        # Once joined and once alone, at most.
        assert end.attempts <= 2 * (MAX_RETRIES + 1)


@settings(max_examples=80, deadline=None)
@given(st.lists(ASKED, min_size=1, max_size=15), SCRIPT, st.integers(2, 6))
def test_every_member_ends_once_in_time_and_with_what_is_its_own(
    asked: list[Asked], script: list[tuple[int, float]], size: int
) -> None:
    run_in_virtual_time(play(asked, Embedder(script), size))
