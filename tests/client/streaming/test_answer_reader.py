"""A stream of events is an answer or an error in a category, whatever its bytes are."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    AuthenticationError,
    BadResponseError,
    InferenceError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
)
from batch_gateway.client.streaming.answer_reader import AnswerReader

CHAT = "/v1/chat/completions"
GOOD = [
    b'data: {"id":"1","object":"chat.completion.chunk","choices":[{"delta":{"content":"a"}}]}\n\n',
    b'data: {"choices":[{"index":0,"delta":{"content":"b"},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n',
    b"data: [DONE]\n\n",
]


def read(*parts: bytes, endpoint: str = CHAT, limit: int = 10_000, event: int = 1_000) -> bytes:
    reader = AnswerReader(endpoint, limit, event)
    for part in parts:
        for value in reader.feed(part):
            reader.typed(value)
        if reader.complete:
            break
    return reader.finish()


def failure(*parts: bytes, **settings: Any) -> InferenceError:
    with pytest.raises(InferenceError) as caught:
        read(*parts, **settings)
    assert 0 < len(caught.value.message) < 400
    assert "\n" not in caught.value.message
    return caught.value


def test_a_whole_stream_is_an_answer_and_what_follows_it_is_not_read() -> None:
    [choice] = json.loads(read(*GOOD, b"data: broken\n\n"))["choices"]
    assert choice["message"]["content"] == "ab"
    assert read(b"".join(GOOD) + b"data: broken\n\n") == read(*GOOD)


def test_comments_pings_and_empty_events_do_no_harm() -> None:
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    assert read(b": ping\n\n", GOOD[0], b"data:\n\n", ping, *GOOD[1:]) == read(*GOOD)


@pytest.mark.parametrize("stop", range(2))
def test_a_stream_that_ends_early_is_a_retryable_error(stop: int) -> None:
    error = failure(*GOOD[:stop])
    assert type(error) is BadResponseError
    assert (error.is_retryable, error.code, error.status_code) == (True, "incomplete_stream", 200)
    assert error.message.startswith("the stream ended early: ")
    assert error.message.endswith(f"(after {stop} chunks)")


@pytest.mark.parametrize(
    "chunk",
    [b"so", b'{"choices":[', b"[]", b"5", b'"text"', b'{"choices":5}', b"NaN", b'{"a":"\xff"}'],
)
def test_a_broken_chunk_is_a_retryable_error(chunk: bytes) -> None:
    error = failure(GOOD[0], b"data: " + chunk + b"\n\n", *GOOD[1:])
    assert type(error) is BadResponseError
    assert (error.is_retryable, error.code) == (True, "broken_chunk")
    assert error.message.startswith("chunk 2 of the stream is broken: ")


def test_limits_are_errors() -> None:
    assert failure(b"data: " + b"x" * 1001).code == "event_too_large"
    error = failure(*GOOD, limit=100)
    assert "max_response_bytes (100 bytes)" in error.message


@pytest.mark.parametrize(
    ("event", "kind", "status", "code"),
    [
        ({"error": {"message": "m", "code": 429}}, RateLimitError, 429, "429"),
        ({"error": {"message": "m", "code": "429"}}, RateLimitError, 429, "429"),
        ({"error": {"message": "m", "code": "rate_limit_exceeded"}}, RateLimitError, 200, None),
        ({"error": {"message": "m", "type": "RateLimitError"}}, RateLimitError, 200, None),
        ({"error": {"message": "m", "type": "overloaded_error"}}, ServerError, 200, None),
        ({"error": {"message": "m", "code": 503, "type": "x"}}, ServerError, 503, "503"),
        ({"error": {"message": "m", "type": "BadRequestError"}}, InvalidRequestError, 200, None),
        ({"error": {"message": "m", "code": "invalid_api_key"}}, AuthenticationError, 200, None),
        ({"error": {"message": "m"}}, ServerError, 200, "stream_error"),
        ({"error": "it broke"}, ServerError, 200, "stream_error"),
        ({"object": "error", "message": "m", "code": 400}, InvalidRequestError, 400, "400"),
        ({"type": "error", "message": "m", "code": "server_error"}, ServerError, 200, None),
    ],
)
def test_an_error_event_has_the_category_that_it_names(
    event: dict[str, Any], kind: type[InferenceError], status: int, code: str | None
) -> None:
    wire = b"data: " + json.dumps(event).encode() + b"\n\n"
    midway = failure(GOOD[0], wire, *GOOD[1:])
    assert type(midway) is kind
    assert midway.is_retryable
    assert midway.status_code == status
    assert midway.message.startswith("the gateway broke off its answer: ")
    assert code is None or midway.code == code
    # Before anything was generated it says what a refusal with that status would.
    at_once = failure(wire)
    assert type(at_once) is kind
    assert at_once.is_retryable is kind.default_retryable


@pytest.mark.parametrize(
    ("event", "kind", "status", "retryable"),
    [
        ({"error": {"message": "no", "code": "invalid_api_key"}}, AuthenticationError, 401, False),
        ({"error": {"message": "no", "type": "overloaded_error"}}, ServerError, 503, True),
        ({"error": {"message": "no", "code": "insufficient_quota"}}, RateLimitError, 429, False),
        (
            {"object": "error", "message": "The model `m` does not exist.", "code": 404},  # vLLM
            InvalidRequestError,
            404,
            False,
        ),
        (  # MiniMax
            {"choices": None, "base_resp": {"status_code": 1002, "status_msg": "no"}},
            ServerError,
            200,
            True,
        ),
        ({"choices": [], "x_groq": {"id": "r", "error": "no"}}, ServerError, 200, True),  # Groq
    ],
)
def test_an_error_instead_of_a_first_chunk_is_what_it_would_be_as_a_body(
    event: dict[str, Any], kind: type[InferenceError], status: int, retryable: bool
) -> None:
    error = failure(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert (type(error), error.status_code, error.is_retryable) == (kind, status, retryable)
    assert error.message.startswith("the gateway broke off its answer: ")


def test_an_event_called_error_is_one() -> None:
    assert failure(b'event: error\ndata: {"message":"out of memory"}\n\n').message.endswith(
        "out of memory"
    )
    assert failure(GOOD[0], b"event: error\ndata: out of memory\n\n").message.endswith(
        "out of memory"
    )


def test_a_failed_response_is_an_error() -> None:
    failed = {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded"}}}
    wire = b"event: response.failed\ndata: " + json.dumps(failed).encode() + b"\n\n"
    assert type(failure(wire, endpoint="/v1/responses")) is RateLimitError


NAMES = (
    *("id", "object", "choices", "delta", "index", "text", "content", "role", "tool_calls"),
    *("function", "name", "arguments", "finish_reason", "logprobs", "error", "message", "code"),
    *("type", "usage", "response"),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 500)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(NAMES),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
ODD_EVENTS = st.one_of(
    JSON.map(lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"),
    st.fixed_dictionaries({"choices": st.lists(JSON, max_size=3)}).map(
        lambda value: b"data: " + json.dumps(value).encode() + b"\n\n"
    ),
    st.binary(max_size=30),
    st.sampled_from(GOOD),
)


@given(
    st.lists(ODD_EVENTS, max_size=12),
    st.sampled_from([CHAT, "/v1/completions", "/v1/responses"]),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_whatever_arrives_ends_in_an_answer_or_an_error(
    events: list[bytes], endpoint: str, places: list[int]
) -> None:
    wire = b"".join(events)
    inside = sorted(place % (len(wire) + 1) for place in places)
    pieces = [wire[a:b] for a, b in pairwise([0, *inside, len(wire)])]

    def outcome(*parts: bytes) -> object:
        try:
            body = read(*parts, endpoint=endpoint)
        except InferenceError as error:
            return type(error), error.code, error.message
        assert isinstance(json.loads(body), dict)
        return body

    assert outcome(*pieces) == outcome(wire)


@given(st.permutations(GOOD))
def test_chunks_in_any_order_are_an_answer_only_when_none_is_missing(order: list[bytes]) -> None:
    try:
        body = json.loads(read(*order))
    except BadResponseError as error:
        assert error.code == "incomplete_stream"  # noqa: PT017
        assert order.index(GOOD[3]) < order.index(GOOD[1])
    else:
        assert set(body["choices"][0]["message"]["content"]) <= {"a", "b"}
        assert order.index(GOOD[1]) < order.index(GOOD[3])
