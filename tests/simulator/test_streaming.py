"""Server-sent events of the endpoints that stream, well and with faults."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from batch_gateway.testing import GatewayHandle

from .asking import CHAT, Answered, ask

STREAM = CHAT | {"stream": True}


def events(answer: Answered) -> list[str]:
    """The data of every event."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.body.decode().split("\n\n")
    assert blocks.pop() == ""
    return [block.rpartition("data: ")[2] for block in blocks]


def chunks(answer: Answered) -> list[Any]:
    *data, done = events(answer)
    assert done == "[DONE]"
    return [json.loads(item) for item in data]


def test_chat_streams_the_text_it_would_have_answered_with(gateway: GatewayHandle) -> None:
    streamed = chunks(ask(gateway.url, body=STREAM | {"max_tokens": 4}))
    assert streamed[0]["choices"][0]["delta"] == {
        "role": "assistant",
        "content": "",
        "refusal": None,
    }
    assert {chunk["object"] for chunk in streamed} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"].get("content") for chunk in streamed[1:-1]]
    assert len(deltas) == len("".join(deltas).split()) == 4
    assert streamed[-1]["choices"][0]["finish_reason"] == "length"
    assert all("usage" not in chunk for chunk in streamed)


def test_usage_comes_last_when_it_was_asked_for(gateway: GatewayHandle) -> None:
    asked = STREAM | {"stream_options": {"include_usage": True}}
    *before, last = chunks(ask(gateway.url, body=asked))
    assert all(chunk["usage"] is None for chunk in before)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 32


def test_choices_and_tool_calls_stream_too(gateway: GatewayHandle) -> None:
    two = chunks(ask(gateway.url, body=STREAM | {"n": 2, "max_tokens": 2}))
    assert {chunk["choices"][0]["index"] for chunk in two} == {0, 1}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    calls = chunks(ask(gateway.url, body=STREAM | {"tools": [tool], "tool_choice": "required"}))
    assert calls[0]["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] == "f"
    arguments = "".join(
        chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"]
        for chunk in calls[1:-1]
    )
    assert json.loads(arguments) == {}
    assert calls[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_completions_stream_texts(gateway: GatewayHandle) -> None:
    asked = {"model": "tiny", "prompt": "x", "stream": True, "max_tokens": 3}
    streamed = chunks(ask(gateway.url, "/v1/completions", asked))
    text = "".join(chunk["choices"][0]["text"] for chunk in streamed)
    assert len(text.split()) == 3


def test_responses_stream_their_own_events(gateway: GatewayHandle) -> None:
    asked = {"model": "tiny", "input": "x", "stream": True, "max_output_tokens": 3}
    streamed = [json.loads(e) for e in events(ask(gateway.url, "/v1/responses", asked))]
    assert [event["sequence_number"] for event in streamed] == list(range(len(streamed)))
    assert streamed[0]["type"] == "response.created"
    deltas = [e["delta"] for e in streamed if e["type"] == "response.output_text.delta"]
    final = streamed[-1]
    assert final["type"] == "response.incomplete"
    assert "".join(deltas) == final["response"]["output"][0]["content"][0]["text"]


def test_a_truncated_stream_ends_without_its_last_chunk(gateway: GatewayHandle) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(gateway.url, body=STREAM, X_Simulate_Fault="sse-truncated")
    assert caught.value.partial.count(b"data: ") == 17
    assert gateway.journal()["aborted"] == 1


def test_a_bad_chunk_is_followed_by_the_rest(gateway: GatewayHandle) -> None:
    data = events(ask(gateway.url, body=STREAM, X_Simulate_Fault="sse-bad-chunk"))
    broken = [item for item in data[:-1] if not is_json(item)]
    assert len(broken) == 1
    assert data[-1] == "[DONE]"
    assert len(data) == 1 + 32 + 1 + 1 + 1


def test_an_error_event_ends_the_stream(gateway: GatewayHandle) -> None:
    data = events(ask(gateway.url, body=STREAM, X_Simulate_Fault="sse-error-event"))
    assert json.loads(data[-1])["error"]["type"] == "server_error"


def test_a_stream_may_end_without_saying_done(gateway: GatewayHandle) -> None:
    data = events(ask(gateway.url, body=STREAM, X_Simulate_Fault="sse-no-done"))
    assert json.loads(data[-1])["choices"][0]["finish_reason"] == "stop"
    assert gateway.journal()["completed"] == 0


def test_a_stream_fault_needs_a_stream(gateway: GatewayHandle) -> None:
    answer = ask(gateway.url, X_Simulate_Fault="sse-truncated")
    assert answer.status == 400
    assert "stream: true" in answer.json()["error"]["message"]


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
