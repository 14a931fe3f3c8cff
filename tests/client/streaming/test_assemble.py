"""Chunks put together are the answer that the same request gets without streaming."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batch_gateway.client.streaming.assemble import (
    AnswerTooLargeError,
    IncompleteAnswerError,
    MalformedDeltaError,
    assemble,
    assembler_for,
)
from batch_gateway.errors import InvalidRequestError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
FRAME = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}


def chat(*choices: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({**FRAME, "choices": choices, **more}).encode()


def delta(index: int = 0, /, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish}


def whole(*events: bytes, endpoint: str = CHAT) -> Any:
    return json.loads(assemble(endpoint, [*events, b"[DONE]"]))


def message(*events: bytes) -> Any:
    [choice] = whole(*events, chat(delta(finish="stop")))["choices"]
    return choice["message"]


def test_text_is_appended_and_the_last_chunk_gives_the_usage() -> None:
    body = assemble(
        CHAT,
        [
            chat(delta(role="assistant", content="", refusal=None), usage=None),
            chat(delta(content="Hel"), usage=None),
            chat(delta(content="lo"), usage=None),
            chat(delta(finish="stop"), usage=None),
            chat(usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}),
            b"[DONE]",
        ],
    )
    assert body == (
        b'{"id":"c-1","object":"chat.completion","created":5,"model":"m","choices":[{"index":0,'
        b'"message":{"role":"assistant","content":"Hello","refusal":null},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}'
    )


def test_choices_are_told_apart_by_their_index() -> None:
    body = whole(
        chat(delta(1, content="b"), delta(0, content="a")),
        chat(delta(0, content="A", finish="stop")),
        chat(delta(2, content="c", finish="length")),
        chat(delta(1, content="B", finish="stop")),
    )
    assert [(c["index"], c["message"]["content"]) for c in body["choices"]] == [
        (0, "aA"),
        (1, "bB"),
        (2, "c"),
    ]
    assert [c["finish_reason"] for c in body["choices"]] == ["stop", "stop", "length"]


def call(index: int, name: str | None = None, arguments: str = "", **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": index, "function": function, **more}


def test_tool_calls_are_put_together_by_their_index() -> None:
    made = message(
        chat(delta(role="assistant", content=None)),
        chat(delta(tool_calls=[call(0, "f", id="call-0", type="function")])),
        chat(delta(tool_calls=[call(0, None, '{"a"')])),
        chat(delta(tool_calls=[call(1, "g", "{", id="call-1", type="function")])),
        chat(delta(tool_calls=[call(0, None, ":1}"), call(1, None, "}")])),
    )
    assert made["content"] is None
    assert made["tool_calls"] == [
        {"function": {"name": "f", "arguments": '{"a":1}'}, "id": "call-0", "type": "function"},
        {"function": {"name": "g", "arguments": "{}"}, "id": "call-1", "type": "function"},
    ]


@pytest.mark.parametrize("names", [["get_weather", None], ["get_weather"] * 2, ["get_", "weather"]])
def test_a_function_name_may_be_repeated_or_sent_in_pieces(names: list[str | None]) -> None:
    made = message(*(chat(delta(tool_calls=[call(0, name, "x", id="1")])) for name in names))
    assert made["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": "xx"}
    assert made["tool_calls"][0]["id"] == "1"


def test_tool_calls_without_an_index_are_whole() -> None:
    one = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert message(chat(delta(tool_calls=[one])), chat(delta(tool_calls=[one])))["tool_calls"] == [
        one,
        one,
    ]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "refusal", "thinking"])
def test_other_text_of_a_message_is_appended_too(field: str) -> None:
    assert message(chat(delta(**{field: "a"})), chat(delta(**{field: "b"})))[field] == "ab"


def test_parts_and_objects_of_a_message_grow() -> None:
    made = message(
        chat(delta(audio={"id": "a-1", "data": "AA", "transcript": "Hel"}, images=[{"url": "u"}])),
        chat(
            delta(audio={"data": "BB", "transcript": "lo", "expires_at": 9}, images=[{"url": "v"}])
        ),
    )
    assert made["audio"] == {"id": "a-1", "data": "AABB", "transcript": "Hello", "expires_at": 9}
    assert made["images"] == [{"url": "u"}, {"url": "v"}]


def test_log_probabilities_are_joined() -> None:
    def probabilities(token: str) -> dict[str, Any]:
        entry = {"token": token, "logprob": -0.5, "bytes": [97], "top_logprobs": []}
        return {"content": [entry], "refusal": None}

    [choice] = whole(
        chat({**delta(content="a"), "logprobs": probabilities("a")}),
        chat({**delta(content="b"), "logprobs": probabilities("b")}),
        chat({**delta(finish="stop"), "logprobs": None}),
    )["choices"]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a", "b"]
    assert choice["logprobs"]["refusal"] is None
    assert list(choice) == ["index", "message", "logprobs", "finish_reason"]


def test_what_a_server_adds_of_its_own_is_kept() -> None:
    body = whole(
        chat({**delta(content="a"), "token_ids": [1], "stop_reason": None}, kv={"hit": 1}),
        chat({**delta(finish="stop"), "token_ids": [2], "stop_reason": 128}, kv={"hit": 2}),
        chat(timings={"predicted_ms": 3.5}),
    )
    assert body["choices"][0]["token_ids"] == [1, 2]
    assert body["choices"][0]["stop_reason"] == 128
    assert (body["kv"], body["timings"]) == ({"hit": 2}, {"predicted_ms": 3.5})


def test_an_empty_first_chunk_does_not_name_the_answer() -> None:
    azure = {"id": "", "object": "", "created": 0, "model": "", "choices": [], "filter": [1]}
    body = whole(json.dumps(azure).encode(), chat(delta(content="a", finish="stop")))
    assert (body["id"], body["object"], body["created"], body["model"]) == (
        "c-1",
        "chat.completion",
        5,
        "m",
    )
    assert body["filter"] == [1]


def test_completions_are_put_together() -> None:
    def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
        frame = {"id": "t", "object": "text_completion", "created": 5, "model": "m"}
        return json.dumps({**frame, "choices": choices, **more}).encode()

    logprobs = {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": None, "text_offset": [0]}
    body = assemble(
        COMPLETIONS,
        [
            chunk({"index": 0, "text": "a", "logprobs": logprobs, "finish_reason": None}),
            chunk({"index": 1, "text": "b", "logprobs": None, "finish_reason": None}),
            chunk({"index": 0, "text": "A", "logprobs": logprobs, "finish_reason": "stop"}),
            chunk({"index": 1, "text": "", "logprobs": None, "finish_reason": "length"}),
            chunk(usage={"prompt_tokens": 1}),
            b"[DONE]",
        ],
    )
    assert body == (
        b'{"id":"t","object":"text_completion","created":5,"model":"m","choices":[{"text":"aA",'
        b'"index":0,"logprobs":{"tokens":["a","a"],"token_logprobs":[-1.0,-1.0],'
        b'"top_logprobs":null,"text_offset":[0,0]},"finish_reason":"stop"},{"text":"b","index":1,'
        b'"logprobs":null,"finish_reason":"length"}],"usage":{"prompt_tokens":1}}'
    )


def test_responses_are_their_last_event() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}]
    response = {"id": "r", "object": "response", "output": output, "usage": {"input_tokens": 1}}
    events = [
        {"type": "response.created", "response": {"id": "r"}},
        {"type": "response.output_text.delta", "delta": "a"},
        {"type": "response.completed", "response": response},
    ]
    assert whole(*(json.dumps(e).encode() for e in events), endpoint="/v1/responses") == {
        **response,
        "status": "completed",
    }


def test_an_emoji_cut_between_two_chunks_is_whole_again() -> None:
    from batch_gateway.client.streaming.answer_reader import AnswerReader

    reader = AnswerReader(CHAT, 10_000)
    frame = b'data: {"choices":[{"delta":{"content":"%b"},"finish_reason":%b}]}\n\n'
    wire = frame % (b"hi \\ud83d", b"null") + frame % (b"\\ude00", b"null")
    wire += frame % (b" cut \\ud83d", b'"length"') + b"data: [DONE]\n\n"
    assert len(list(reader.feed(wire))) == 3
    body = reader.finish()
    assert body.isascii()
    assert json.loads(body)["choices"][0]["message"]["content"] == "hi 😀 cut \ud83d"


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([b"[DONE]"], "no choice"),
        ([chat(delta(content="a"))], "finish_reason"),
        ([chat(delta(content="a")), b"[DONE]"], "finish_reason"),
        ([chat(delta(0, finish="stop"), delta(1, content="a")), b"[DONE]"], "finish_reason"),
    ],
)
def test_an_answer_that_is_not_whole_is_none(events: list[bytes], problem: str) -> None:
    with pytest.raises(IncompleteAnswerError, match=problem):
        assemble(CHAT, events)


@pytest.mark.parametrize(
    "chunk",
    [
        [],
        "text",
        {"choices": {}},
        {"choices": ["a"]},
        {"choices": [{"index": "first", "delta": {}}]},
        {"choices": [{"index": True, "delta": {}}]},
        {"choices": [{"index": 0, "delta": "text"}]},
        {"choices": [{"index": 0, "delta": {"content": 5}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": {"a": 1}}}]},
        {"choices": [{"index": 0, "finish_reason": 7}]},
        {"choices": [{"index": 0, "logprobs": [1]}]},
    ],
)
def test_what_does_not_fit_is_refused(chunk: Any) -> None:
    assembler = assembler_for(CHAT, 10_000)
    tools = [{"index": 0, "id": "1"}]
    assembler.add({"choices": [{"index": 0, "delta": {"content": "a", "tool_calls": tools}}]})
    with pytest.raises(MalformedDeltaError):
        assembler.add(chunk)


ENDLESS: list[dict[str, Any]] = [
    {"choices": [{"delta": {"content": "x" * 100}}]},
    {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}}]},
    {"choices": [{"delta": {}, "logprobs": {"content": [{"token": "a"}]}}]},
    {"choices": [{"delta": {"list": [1, 2]}, "ids": [1, 2]}]},
]


@pytest.mark.parametrize("chunk", ENDLESS)
def test_an_answer_without_an_end_is_given_up_at_its_limit(chunk: dict[str, Any]) -> None:
    assembler = assembler_for(CHAT, 100_000)
    with pytest.raises(AnswerTooLargeError):  # noqa: PT012
        for _ in range(100_000):
            assembler.add(chunk)


def test_made_up_indexes_and_names_count_towards_the_limit() -> None:
    for kind in ("choice", "call", "name", "frame"):
        assembler = assembler_for(CHAT, 100_000)
        with pytest.raises(AnswerTooLargeError):  # noqa: PT012
            for number in range(100_000):
                call = {"tool_calls": [{"index": number}]} if kind == "call" else {}
                named = {f"n{number}": 1} if kind == "name" else {}
                choice = {"index": number if kind == "choice" else 0, "delta": {**call, **named}}
                frame = {f"f{number}": None} if kind == "frame" else {}
                assembler.add({"choices": [choice], **frame})


def test_endpoints_that_do_not_stream_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match="/v1/embeddings cannot be streamed"):
        assembler_for("/v1/embeddings", 1)
