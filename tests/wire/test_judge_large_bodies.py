"""Bodies of megabytes: judged as small ones are, without building what is in them."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.answer_judge import judge_answer
from batch_gateway.wire.json_check import LARGE_BODY, is_utf8
from batch_gateway.wire.usage import parse_usage
from tests.wire.test_answer_judge import CHAT, EMBEDDINGS, ERRORS, GOOD, HARMLESS

PADDING = "x" * LARGE_BODY
LONG = "word " * (LARGE_BODY // 4)
CHOICE: dict[str, Any] = {"message": {"role": "assistant", "content": LONG}}
VECTORS = {"data": [{"embedding": [0.5] * 1000} for _ in range(400)], "usage": {"prompt_tokens": 7}}


def body(value: object) -> bytes:
    text = json.dumps(value).encode()
    assert len(text) > LARGE_BODY
    return text


@given(
    st.sampled_from([*GOOD]),
    st.sampled_from([{}, *ERRORS, *HARMLESS]),
    st.sampled_from(["", "\ud83d"]),
    st.booleans(),
)
def test_the_verdict_is_that_of_a_small_body(
    endpoint: str, more: dict[str, Any], half_an_emoji: str, answered: bool
) -> None:
    small = {**(GOOD[endpoint] if answered else {}), **more}
    large = {**small, "x_padding": PADDING, "x_text": half_an_emoji}
    expected, found = (
        judge_answer(endpoint, json.dumps(small).encode()),
        judge_answer(endpoint, body(large)),
    )
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert (found.status, found.code) == (expected.status, expected.code)
        assert len(found.problem) < 500


@pytest.mark.parametrize(
    ("endpoint", "value"),
    [
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "whatever"}], "error": {}}),
        (CHAT, {"choices": [{**CHOICE, "logprobs": {"content": [{"token": "\ud83d"}]}}]}),
        (EMBEDDINGS, {**VECTORS, "object": "error-free", "error": ""}),
        (EMBEDDINGS, {"data": [{"embedding": [0.5] * 400_000}], "error": ""}),
    ],
)
def test_a_large_odd_answer_is_one(endpoint: str, value: object) -> None:
    assert judge_answer(endpoint, body(value)) is None


@pytest.mark.parametrize(
    ("endpoint", "value", "says"),
    [
        (CHAT, {"choices": [{**CHOICE, "finish_reason": "abort"}]}, "aborted"),
        (CHAT, {"choices": [{**CHOICE, "error": {"code": 502}}]}, "error 502"),
        (CHAT, {"choices": [{"message": LONG}]}, "one of its 'choices' has no message"),
        (CHAT, {"error": {"message": LONG, "code": 429}}, "error 429 in it: word word"),
        (CHAT, {"error": [{"message": LONG}]}, "word word"),
        (EMBEDDINGS, {**VECTORS, "error": "broken off"}, "broken off"),
        (EMBEDDINGS, {"data": [1] * LARGE_BODY}, "one of its 'data' has no embedding"),
    ],
)
def test_a_large_body_that_is_no_answer_says_why(endpoint: str, value: object, says: str) -> None:
    fault = judge_answer(endpoint, body(value))
    assert fault is not None
    assert says in fault.problem


@pytest.mark.parametrize(
    ("change", "says", "retryable"),
    [
        ((b"}]", b"},NaN]"), "it holds NaN, which JSON", False),
        ((b"0.5]", b"-Infinity]"), "it holds -Infinity, which JSON", False),
        ((b"0.5]", b"0.5,]"), "is not JSON", None),
        ((b"embedding", b"embe\xffing"), "is not UTF-8", None),
    ],
)
def test_a_large_body_that_is_nearly_json_says_why(
    change: tuple[bytes, bytes], says: str, retryable: bool | None
) -> None:
    fault = judge_answer(EMBEDDINGS, body(VECTORS).replace(*change))
    assert fault is not None
    assert says in fault.problem
    assert fault.is_retryable is retryable


def test_usage_is_found_in_a_large_odd_body() -> None:
    for odd in (b'"prompt_tokens": 7.0', b'"prompt_tokens": "7"'):
        usage = parse_usage(body(VECTORS).replace(b'"prompt_tokens": 7', odd))
        assert usage is not None
        assert usage.input_tokens == 7


def test_little_is_built_of_a_large_body() -> None:
    text = body({**VECTORS, "error": "broken off"})
    tracemalloc.start()
    try:
        judge_answer(EMBEDDINGS, text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(text) / 2


@given(st.text(min_size=1), st.integers(0, 20), st.booleans())
def test_a_character_on_the_border_of_two_slices_is_whole(
    text: str, before: int, broken: bool
) -> None:
    encoded = text.encode(errors="replace")
    tail = b"\xff" if broken else b""
    assert is_utf8(b"x" * (LARGE_BODY - before) + encoded + tail) is not broken
