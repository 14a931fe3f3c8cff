"""`stream()` raises InferenceError and nothing else, and keeps odd fields in `raw`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import BadResponseError, ChatChunk, InferenceError
from batch_gateway.wire.chunks import chat_chunk, chat_chunk_of_body, completion_chunk
from tests.client.streaming.scripted import EVENT_STREAM, REQUEST, asking, once, scripted

GOOD: dict[str, Any] = {
    "id": "1",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    ],
}
CALL = {"id": 7, "function": {"name": "f", "arguments": {"x": 1}}}
ODD: list[dict[str, Any]] = [
    {"id": 5, "created": "now", "model": None, "usage": []},
    {"choices": [{"index": None, "message": {"content": [{"type": "text", "text": "Hi"}]}}]},
    {"choices": [{"index": "0", "message": {"content": "Hi", "tool_calls": [CALL]}}]},
    {"choices": [{"message": {"content": "Hi", "refusal": 5}, "logprobs": 3}]},
    {"created": 10**400, "usage": {"prompt_tokens": 1.0}},
    {"service_tier": ["a"], "system_fingerprint": {}},
]


async def chunks_of(answer: bytes) -> list[Any]:
    async with scripted(once(answer)) as server, asking(server.url) as client:
        stream = client.stream(REQUEST)
        chunks = [chunk async for chunk in stream]
        assert stream.finish_reasons in ({0: "stop"}, {})
        return chunks


@pytest.mark.anyio
@pytest.mark.parametrize("odd", ODD)
async def test_an_odd_field_of_a_plain_answer_is_only_in_raw(odd: dict[str, Any]) -> None:
    body = json.dumps({**GOOD, **odd}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    for mark in (b"", b"\xef\xbb\xbf"):
        [chunk] = await chunks_of(head % len(mark + body) + mark + body)
        assert isinstance(chunk, ChatChunk)
        assert chunk.text == "Hi"
        assert list(chunk.raw) == list({**GOOD, **odd})


@pytest.mark.anyio
async def test_a_number_that_no_float_holds_is_no_private_error() -> None:
    body = json.dumps(GOOD).encode()[:-1] + b',"created":1e999}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    [chunk] = await chunks_of(head % len(body) + body)
    assert chunk.text == "Hi"
    wire = (
        b'data: {"created":1e999,"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n'
    )
    [chunk] = await chunks_of(EVENT_STREAM + b"\r\n" + wire)
    assert chunk.text == "Hi"


@pytest.mark.anyio
@pytest.mark.parametrize("body", [b"{}", b"[]", b"5", b"", b'{"choices":[]}', b'{"choices":5}'])
async def test_what_is_no_answer_is_a_bad_response(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with pytest.raises(BadResponseError):
        await chunks_of(head % len(body) + body)


NAMES = (
    *("id", "object", "created", "model", "choices", "index", "delta", "message", "text"),
    *("content", "role", "tool_calls", "function", "name", "arguments", "type", "usage"),
    *("finish_reason", "logprobs", "refusal", "reasoning"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(NAMES), JSON, max_size=6))
def test_any_object_is_a_chunk_and_is_in_its_raw(value: dict[str, Any]) -> None:
    for made in (chat_chunk(value), completion_chunk(value), chat_chunk_of_body(value)):
        assert made.raw is value
        assert isinstance(made.text, str)
        assert isinstance(made.id, str)
        assert made.usage is None or isinstance(made.usage, dict)


# --- /v1/responses ---

RESPONSES = "/v1/responses"
MESSAGE = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hi"}],
}


def response_of(*events: dict[str, Any], named: bool = False) -> Any:
    from batch_gateway.client.streaming.answer_reader import AnswerReader

    reader = AnswerReader(RESPONSES, 100_000)
    for one in events:
        name = b"event: " + one["type"].encode() + b"\n" if named else b""
        fields = {key: value for key, value in one.items() if key != "type" or not named}
        for value in reader.feed(name + b"data: " + json.dumps(fields).encode() + b"\n\n"):
            assert reader.typed(value).raw["type"] == one["type"]
    return json.loads(reader.finish())


def completed(**fields: Any) -> dict[str, Any]:
    response = {"id": "r", "status": "completed", "output": [], **fields}
    return {"type": "response.completed", "response": response}


def text_delta(text: str, index: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": index, "delta": text}


@pytest.mark.parametrize("named", [False, True], ids=["typed", "named"])
@pytest.mark.parametrize("output", [[], None, ...])
def test_an_empty_output_is_made_of_the_items_that_were_done(output: Any, *, named: bool) -> None:
    last = completed()
    if output is ...:
        del last["response"]["output"]
    else:
        last["response"]["output"] = output
    done = [
        {
            "type": "response.output_item.done",
            "output_index": index,
            "item": {**MESSAGE, "n": index},
        }
        for index in (1, 0)
    ]
    made = response_of({"type": "response.created", "response": {}}, *done, last, named=named)
    assert made["output"] == [{**MESSAGE, "n": 0}, {**MESSAGE, "n": 1}]


def test_items_that_were_not_done_are_made_of_their_deltas() -> None:
    call = {"type": "function_call", "name": "f", "arguments": ""}
    made = response_of(
        text_delta("H"),
        text_delta("i"),
        {"type": "response.output_item.added", "output_index": 1, "item": call},
        {
            "type": "response.function_call_arguments.delta",
            "output_index": 1,
            "delta": '{"x":1}',
        },
        completed(),
    )
    first, second = made["output"]
    assert first["content"] == [{"type": "output_text", "text": "Hi"}]
    assert (first["type"], first["role"]) == ("message", "assistant")
    assert second == {**call, "arguments": '{"x":1}', "status": "completed"}


def test_an_output_of_its_own_is_kept() -> None:
    assert response_of(text_delta("x"), completed(output=[MESSAGE]))["output"] == [MESSAGE]


@pytest.mark.parametrize(
    "last",
    [
        completed(status="failed", error={"code": "rate_limit_exceeded", "message": "too many"}),
        {
            "type": "response.failed",
            "response": {"error": {"code": "rate_limit_exceeded", "message": "too many"}},
        },
        {"type": "error", "code": "rate_limit_exceeded", "message": "too many"},
        {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "too many"}},
    ],
)
@pytest.mark.parametrize("named", [False, True], ids=["typed", "named"])
def test_a_failed_response_is_its_error(last: dict[str, Any], *, named: bool) -> None:
    with pytest.raises(InferenceError, match="too many") as caught:
        response_of(text_delta("x"), last, named=named)
    assert caught.value.category.value == "RATE_LIMIT"


def test_an_incomplete_response_is_an_answer() -> None:
    response = {"status": "incomplete", "output": [MESSAGE]}
    assert response_of({"type": "response.incomplete", "response": response}) == response


@pytest.mark.parametrize(
    ("last", "status"), [("completed", "completed"), ("incomplete", "incomplete")]
)
@pytest.mark.parametrize("output", [[], [MESSAGE]])
def test_a_response_without_a_status_has_that_of_its_last_event(
    last: str, status: str, output: list[Any]
) -> None:
    event = {"type": f"response.{last}", "response": {"id": "r", "output": output}}
    made = response_of(text_delta("x"), event)
    assert made["status"] == status
    assert made["output"][0]["content"]


def test_a_response_that_was_cancelled_is_a_failure_even_where_only_its_event_says_so() -> None:
    event = {"type": "response.cancelled", "response": {"id": "r", "output": [MESSAGE]}}
    with pytest.raises(InferenceError, match="cancelled"):
        response_of(text_delta("x"), event)
