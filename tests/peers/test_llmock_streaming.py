"""Streams before llmock, which breaks them in four ways and sees what its client makes of it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import pytest

from batch_gateway import (
    BadResponseError,
    ErrorCategory,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    RequestTimeoutError,
    RetryPolicy,
    ServerError,
)
from tests.peers.grader import Grader

pytestmark = pytest.mark.peer("llmock")

LIMIT_S = 30.0
IDLE_S = 0.5
# So long that llmock is still sending when its client leaves after a broken chunk.
TEXT = "All" + " of the answer" * 300
KINDS = ["disconnect", "truncate", "malformed", "stall"]
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}


def chat(content: str, **more: Any) -> InferenceRequest:
    params = {"model": "gpt-4o", "messages": [{"role": "user", "content": content}], **more}
    return InferenceRequest(params=params)


def config(grader: Grader, **settings: Any) -> HTTPInferenceClientConfig:
    quick = RetryPolicy(max_retries=1, initial_backoff=0.3)
    ours = {"api_key": "sk-key", "retry": quick, "stream_idle_timeout": IDLE_S, **settings}
    return HTTPInferenceClientConfig(grader.url, **ours)


def whole_answer(
    grader: Grader, request: InferenceRequest, **settings: Any
) -> InferenceResponse | InferenceError:
    async def one() -> InferenceResponse:
        async with (
            asyncio.timeout(LIMIT_S),
            HTTPInferenceClient(config(grader, **settings)) as client,
        ):
            return await client.generate(request)

    try:
        return asyncio.run(one())
    except InferenceError as error:
        return error


def read(
    grader: Grader, request: InferenceRequest, **settings: Any
) -> tuple[str, InferenceError | None]:
    """The text of a stream, and the error that it ended with."""

    async def one() -> tuple[str, InferenceError | None]:
        text = ""
        async with (
            asyncio.timeout(LIMIT_S),
            HTTPInferenceClient(config(grader, **settings)) as client,
        ):
            try:
                async for chunk in client.stream(request):
                    text += chunk.text
            except InferenceError as error:
                return text, error
        return text, None

    return asyncio.run(one())


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_stream_behind_generate_is_asked_for_again(grader: Grader, kind: str) -> None:
    grader.script({"type": "reply", "text": TEXT, "times": 2})
    grader.script({"type": "stream_fault", "kind": kind, "after_chunks": 2, "stall_seconds": 2})
    # Waits are random; this seed's is long enough for llmock to see the first attempt end.
    random.seed(7)
    answer = whole_answer(grader, chat("hello"), stream_upstream=True)
    assert isinstance(answer, InferenceResponse), answer
    assert answer.attempts == 2
    assert answer.json()["choices"][0]["message"]["content"] == TEXT
    assert grader.findings() == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [1, 2])
def test_a_stream_that_is_always_broken_is_never_taken_for_an_answer(
    grader: Grader, kind: str, after: int
) -> None:
    fault = {"type": "stream_fault", "kind": kind, "after_chunks": after, "stall_seconds": 2}
    grader.script({**fault, "times": None})
    error = whole_answer(grader, chat("hello"), stream_upstream=True)
    assert isinstance(error, ServerError)
    assert (error.category, error.is_retryable) == (ErrorCategory.SERVER_ERROR, True)
    assert error.attempts == 2
    expected = {
        "malformed": (BadResponseError, "broken_chunk"),
        "stall": (RequestTimeoutError, "idle_timeout"),
        "truncate": (BadResponseError, "incomplete_stream"),
    }
    if kind in expected:
        assert (type(error), error.code) == expected[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_reader_of_a_broken_stream_gets_its_beginning_and_an_error(
    grader: Grader, kind: str
) -> None:
    # Long, so that the connection is closed before all of it is sent, on a busy machine as well.
    whole = TEXT + 2000 * " and so on"
    grader.script({"type": "reply", "text": whole, "times": 2})
    grader.script({"type": "stream_fault", "kind": kind, "after_chunks": 2, "stall_seconds": 2})
    text, error = read(grader, chat("hello"))
    assert text == "All "
    assert isinstance(error, ServerError)
    assert (error.attempts, error.is_retryable) == (1, True)
    # llmock sees a retry only in what begins after the first attempt has ended there, too.
    end = time.monotonic() + LIMIT_S
    while not grader.statuses() and time.monotonic() < end:
        time.sleep(0.01)
    # As the error says, the request may be sent again; llmock takes that for the retry it is.
    assert read(grader, chat("hello")) == (whole, None)
    assert grader.findings() == []


def test_a_reader_gets_the_whole_text(grader: Grader) -> None:
    grader.script({"type": "reply", "text": "Grüße, 世界 \U0001f600"})
    assert read(grader, chat("hello")) == ("Grüße, 世界 \U0001f600", None)
    assert grader.is_blameless(attempts=1)


def said(value: Any) -> Any:
    """An answer without what is made up for each, and without nulls, of which llmock's streams
    have fewer."""
    if isinstance(value, list):
        return [said(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {k: said(v) for k, v in value.items() if v is not None and k not in ("id", "created")}


@pytest.mark.parametrize(
    "more", [{}, {"n": 2}, {"tools": [TOOL]}], ids=["text", "choices", "tool call"]
)
def test_an_assembled_answer_is_the_one_that_is_not_streamed(
    grader: Grader, more: dict[str, Any]
) -> None:
    if "tools" in more:
        grader.script({"type": "tool_fault", "kind": "malformed_arguments", "times": 2})
    else:
        grader.script({"type": "reply", "text": "Some words", "times": 2})
    plain = whole_answer(grader, chat("hello", **more))
    streamed = whole_answer(grader, chat("hello", **more), stream_upstream=True)
    assert isinstance(plain, InferenceResponse)
    assert isinstance(streamed, InferenceResponse)
    assert said(plain.json()) == said(streamed.json())
    assert grader.is_blameless(attempts=2)


@pytest.mark.parametrize("kind", ["malformed_arguments", "unknown_tool"])
def test_a_broken_tool_call_is_the_models_and_is_handed_over(grader: Grader, kind: str) -> None:
    grader.script({"type": "tool_fault", "kind": kind})
    request = chat("weather?", tools=[TOOL])
    answer = whole_answer(grader, request, stream_upstream=True)
    assert isinstance(answer, InferenceResponse)
    [call] = answer.json()["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"]
    assert isinstance(call["function"]["arguments"], str)
    assert grader.is_blameless(attempts=1)


def test_a_slow_first_token_is_waited_for_and_measured(grader: Grader) -> None:
    grader.script({"type": "slow_first_token", "seconds": 3 * IDLE_S})
    answer = whole_answer(grader, chat("hello"), stream_upstream=True)
    assert isinstance(answer, InferenceResponse)
    assert answer.time_to_first_token is not None
    assert 3 * IDLE_S <= answer.time_to_first_token <= answer.duration
    assert grader.is_blameless(attempts=1)


def test_a_first_token_that_takes_longer_than_the_timeout_is_asked_for_again(
    grader: Grader,
) -> None:
    grader.script({"type": "slow_first_token", "seconds": 2.0})
    settings = {"stream_upstream": True, "timeout": IDLE_S}
    answer = whole_answer(grader, chat("hello"), **settings)
    assert isinstance(answer, InferenceResponse)
    assert answer.attempts == 2
    assert grader.findings() == []


def test_a_refusal_of_a_stream_is_waited_out(grader: Grader) -> None:
    grader.fail(429, retry_after=0.2)
    text, error = read(grader, chat("hello"))
    assert text
    assert error is None
    assert grader.is_blameless(attempts=2)
