"""Streams as servers are known to send them, and the answers that they mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import ChatChunk, InferenceError
from batch_gateway.client.streaming.answer_reader import AnswerReader

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
DONE = b"data: [DONE]\n\n"


def event(value: Any, name: str = "") -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    frame = {"id": "c-1", "object": "chat.completion.chunk", "created": 5, "model": "m"}
    return event({**frame, "choices": choices, **more})


def delta(fields: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    return chunk({"index": 0, "delta": fields or {}, "finish_reason": finish}, **more)


STOP = delta(finish="stop")


def read(wire: bytes, endpoint: str = CHAT) -> tuple[Any, str]:
    """The answer, and the text that its chunks gave."""
    reader = AnswerReader(endpoint, 1_000_000, 100_000)
    values = [*reader.feed(wire), *reader.end()]
    text = "".join(reader.typed(value).text for value in values)
    return json.loads(reader.finish()), text


def message(*parts: bytes) -> Any:
    body, _ = read(b"".join(parts) + STOP + DONE)
    [choice] = body["choices"]
    assert choice["finish_reason"] == "stop"
    return choice["message"]


def calls(*deltas: list[dict[str, Any]]) -> list[tuple[str | None, str, str]]:
    made = message(*(delta({"tool_calls": one}) for one in deltas))["tool_calls"]
    assert all("index" not in call for call in made)
    return [
        (call.get("id"), call["function"]["name"], call["function"]["arguments"]) for call in made
    ]


def call(index: Any, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    made = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in made.items() if value is not ...}


NO_INDEX: Any = ...


# --- framing that is nearly that of events ---

HELLO = [delta({"role": "assistant", "content": "Hel"}), delta({"content": "lo"}), STOP]


@pytest.mark.parametrize(
    "last",
    [
        *(b"[DONE]", b"[done]", b"[Done]", b"DONE", b'"[DONE]"', b"[EOS]", b"end", b"<[DONE]>"),
        *(b" [DONE] ", b"data: [DONE]", b"data:[DONE]", b"data: data: [DONE]"),
    ],
)
def test_a_last_word_has_many_spellings(last: bytes) -> None:
    body, text = read(b"".join(HELLO) + event(last))
    assert body["choices"][0]["message"]["content"] == text == "Hello"


@pytest.mark.parametrize("last", [b"[done]", b"end", b"data: [DONE]"])
def test_a_last_word_ends_no_answer_that_is_not_whole(last: bytes) -> None:
    with pytest.raises(InferenceError, match="ended early"):
        read(b"".join(HELLO[:2]) + event(last))


def test_events_that_were_framed_twice_are_read_as_they_were_meant() -> None:
    twice = [b"data: " + one.rstrip() + b"\ndata: \ndata: \n\n" for one in (*HELLO, DONE)]
    body, text = read(b"".join(twice))
    assert body["choices"][0]["message"]["content"] == text == "Hello"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [DONE, b"data: [DONE]", b""])
@pytest.mark.parametrize("named", [b"", b"id: 7\n"])
def test_events_need_no_empty_line_between_them(end: bytes, last: bytes, named: bytes) -> None:
    lines = (named + one.rstrip() for one in (*HELLO, last) if one)
    wire = b"".join(line.replace(b"\n", end) + end for line in lines)
    body, text = read(wire)
    assert body["choices"][0]["message"]["content"] == text == "Hello"
    cut = AnswerReader(CHAT, 1_000_000, 300)
    for number in range(len(wire)):
        list(cut.feed(wire[number : number + 1]))
    assert json.loads(cut.finish()) == body


def test_an_error_field_right_behind_a_chunk_is_no_part_of_it() -> None:
    with pytest.raises(InferenceError, match="too many tokens"):
        read(HELLO[0].rstrip() + b'\nerror: {"code": 400, "message": "too many tokens"}\n\n')


@pytest.mark.parametrize("end", [b'data: {"a', b'error: {"a', b": b", b"a\n\n"])
@pytest.mark.parametrize("limit", ["event", "answer"])
def test_what_is_too_large_at_the_end_of_a_stream_is_no_private_error(
    end: bytes, limit: str
) -> None:
    event_limit, answer_limit = (300, 10_000) if limit == "event" else (10_000, 300)
    reader = AnswerReader(CHAT, answer_limit, event_limit)
    wire = b"data: {" + b"c" * 280 + b"\n" + end + b"d" * 50

    def read_all() -> bytes:
        list(reader.feed(wire))
        return reader.finish()

    with pytest.raises(InferenceError):
        read_all()


def test_a_whole_message_in_an_event_is_streamed_as_one_chunk() -> None:
    said = {"role": "assistant", "content": "Hello"}
    body, text = read(chunk({"index": 0, "message": said, "finish_reason": "stop"}) + DONE)
    assert body["choices"][0]["message"]["content"] == text == "Hello"


# --- errors at the end ---


def test_a_stream_that_groq_broke_off_is_a_failure() -> None:
    with pytest.raises(InferenceError, match="over capacity") as caught:
        read(HELLO[0] + delta(finish="stop", x_groq={"id": "req", "error": "over capacity"}) + DONE)
    assert caught.value.is_retryable
    body, _ = read(HELLO[0] + delta(finish="stop", x_groq={"id": "req", "usage": {}}) + DONE)
    assert body["x_groq"]["id"] == "req"


# --- text in the wrong place ---


def test_chat_takes_its_delta_where_a_choice_carries_text_too() -> None:
    both = [{"index": 0, "delta": {"content": one}, "text": one} for one in ("Hi", "!")]
    body, text = read(chunk(both[0]) + chunk(both[1]) + STOP + DONE)
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "Hi!"}
    assert "text" not in body["choices"][0]
    assert text == "Hi!"


def test_chat_takes_text_where_there_is_no_delta() -> None:
    body, text = read(chunk({"index": 0, "text": "Hi"}) + STOP + DONE)
    assert body["choices"][0]["message"]["content"] == text == "Hi"


@pytest.mark.parametrize("fields", [{"text": "a", "delta": {"content": "a"}}, {"text": "a"}])
def test_completions_take_their_text(fields: dict[str, Any]) -> None:
    last = chunk({"finish_reason": "stop", "text": ""})
    body, text = read(chunk(fields) + last + DONE, COMPLETIONS)
    assert body["choices"][0]["text"] == text == "a"
    assert "delta" not in body["choices"][0]


def test_completions_without_text_take_that_of_a_delta() -> None:
    first = chunk({"index": 0, "delta": {"role": "assistant", "content": "a"}})
    last = chunk({"index": 0, "delta": {}, "finish_reason": "length"})
    body, text = read(first + first + last + DONE, COMPLETIONS)
    assert body["choices"] == [{"text": "aa", "index": 0, "finish_reason": "length"}]
    assert text == "aa"


def test_a_message_at_the_end_does_not_repeat_the_deltas_before_it() -> None:
    whole = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    assert read(delta({"content": "Hi"}) + chunk(whole) + DONE)[0]["choices"][0]["message"] == {
        "role": "assistant",
        "content": "Hi",
    }
    assert read(chunk(whole) + DONE)[0]["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize("role", [None, "", "assistant"])
def test_the_role_is_the_assistant_where_no_delta_says_another(role: str | None) -> None:
    assert message(delta({"role": role, "content": "a"}))["role"] == "assistant"


# --- tool calls ---


@pytest.mark.parametrize("index", [0, "0", None, NO_INDEX])
def test_a_new_id_with_a_name_begins_a_call_whatever_its_index(index: Any) -> None:
    assert calls(
        [call(index, "a", "f", "")],
        [call(index, None, None, '{"x":')],
        [call(index, "", "", "1}")],
        [call(index, "b", "f", '{"y"')],
        [call(index, None, None, ":2}")],
        [call(index, "c", "g", "{}")],
    ) == [("a", "f", '{"x":1}'), ("b", "f", '{"y":2}'), ("c", "g", "{}")]


@pytest.mark.parametrize("index", [0, "0", None, NO_INDEX])
def test_a_repeated_id_goes_on(index: Any) -> None:
    pieces = [[call(index, "a", "f", piece)] for piece in ('{"x"', ":", "1}")]
    assert calls(*pieces) == [("a", "f", '{"x":1}')]


def test_another_id_without_a_name_goes_on_where_the_index_is_the_same() -> None:
    pieces = [call(0, "a", "f", "{"), call(0, "b", None, '"x":1'), call(0, "c", "", "}")]
    assert calls(*([one] for one in pieces)) == [("a", "f", '{"x":1}')]


def test_calls_in_one_delta_are_told_apart_without_an_index() -> None:
    both = [call(NO_INDEX, "a", "f", '{"x":1}'), call(NO_INDEX, "b", "g", "{}")]
    assert calls(both) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


@pytest.mark.parametrize("index", [0, None, NO_INDEX])
@pytest.mark.parametrize("no_id", ["", None])
def test_whole_calls_without_an_id_stay_apart(index: Any, no_id: str | None) -> None:
    # Gemini's OpenAI form gave all parallel calls an empty id and the number 0.
    whole = [call(index, no_id, "f", '{"city":"Rome"}'), call(index, no_id, "f", '{"city":"Oslo"}')]
    expected = [(no_id, "f", '{"city":"Rome"}'), (no_id, "f", '{"city":"Oslo"}')]
    assert calls(whole) == expected
    assert calls(*([one] for one in whole)) == expected


def test_an_id_says_which_call_goes_on_where_there_is_no_index() -> None:
    assert calls(
        [call(NO_INDEX, "a", "f", "{"), call(NO_INDEX, "b", "g", "{")],
        [call(NO_INDEX, "a", None, '"x":1}'), call(NO_INDEX, "b", None, "}")],
    ) == [("a", "f", '{"x":1}'), ("b", "g", "{}")]


def test_another_name_begins_a_call_where_there_is_neither_index_nor_id() -> None:
    assert calls(
        [call(NO_INDEX, None, "f", "{"), call(NO_INDEX, None, None, "}")],
        [call(NO_INDEX, None, "g", "{")],
        [call(NO_INDEX, None, "g", "}")],
    ) == [(None, "f", "{}"), (None, "g", "{}")]


def test_a_call_that_stands_where_a_list_should_is_one() -> None:
    # TGI 1.4 to 2.3
    wire = [delta({"tool_calls": call(0, "", *piece)}) for piece in (("f", '{"a"'), (None, ":1}"))]
    [made] = message(*wire)["tool_calls"]
    assert made["function"] == {"name": "f", "arguments": '{"a":1}'}
    reader = AnswerReader(CHAT, 10_000)
    [typed] = [reader.typed(value) for value in reader.feed(wire[0])]
    assert isinstance(typed, ChatChunk)
    [piece] = typed.choices[0].delta.tool_calls or []
    assert piece.function is not None
    assert piece.function.name == "f"


@pytest.mark.parametrize("index", [0.0, "0"])
def test_an_index_may_be_written_otherwise(index: Any) -> None:
    body, text = read(chunk({"index": index, "delta": {"content": "Hi"}}) + STOP + DONE)
    assert body["choices"][0]["message"]["content"] == text == "Hi"


def test_calls_are_in_the_order_of_their_indexes() -> None:
    assert calls([call(1, "b", "g", "{}")], [call(0, "a", "f", "{}")]) == [
        ("a", "f", "{}"),
        ("b", "g", "{}"),
    ]


# --- fields that are said again and again ---


def test_what_is_no_generated_text_is_said_once() -> None:
    repeated = {"format": "anthropic-v1", "channel": "analysis", "signature": "abc", "weight": 1}
    made = message(
        delta({"role": "assistant", "reasoning": "a", **repeated}),
        delta({"role": "assistant", "reasoning": "b", **repeated}),
        delta({"role": "assistant", "content": "c", **repeated, "channel": "final"}),
        delta({"channel": ""}),
    )
    assert made == {"role": "assistant", "content": "c", "reasoning": "ab", **repeated} | {
        "channel": "final"
    }


def test_reasoning_details_grow_by_index_and_type() -> None:
    # OpenRouter; the signature of a detail comes under the same number as its text.
    text = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
    secret = {"type": "reasoning.encrypted", "data": "xyz", "index": 0}
    made = message(
        delta({"reasoning_details": [{**text, "text": "a"}]}),
        delta({"reasoning_details": [{**text, "text": "b"}]}),
        delta({"reasoning_details": [secret]}),
    )
    assert made["reasoning_details"] == [{**text, "text": "ab"}, secret]


def test_content_in_parts_is_kept_and_its_text_is_streamed() -> None:
    # Mistral's reasoning models.
    def thought(words: str) -> bytes:
        part = {"type": "thinking", "thinking": [{"type": "text", "text": words}]}
        return delta({"content": [part]})

    wire = thought("h") + thought("m") + delta({"content": "The "}) + delta({"content": "end"})
    body, text = read(wire + STOP + DONE)
    assert body["choices"][0]["message"]["content"] == [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "The end"},
    ]
    assert text == "The end"


def test_parts_that_are_whole_stay_apart() -> None:
    image = {"type": "image_url", "image_url": {"url": "u"}}
    parts = [{"type": "text", "text": "a"}, image, image, {"type": "text", "text": "b"}]
    wire = delta({"content": "x"}) + b"".join(delta({"content": [part]}) for part in parts)
    body, text = read(wire + STOP + DONE)
    assert body["choices"][0]["message"]["content"] == [
        {"type": "text", "text": "xa"},
        image,
        image,
        {"type": "text", "text": "b"},
    ]
    assert text == "xab"


# --- how it ends ---


@pytest.mark.parametrize("reason", ["", None, "null", "None"])
def test_an_empty_finish_reason_is_none(reason: str | None) -> None:
    usage = chunk({"index": 0, "delta": {}, "finish_reason": reason}, usage={"prompt_tokens": 1})
    body, _ = read(delta({"content": "a"}) + STOP + usage + DONE)
    assert body["choices"][0]["finish_reason"] == "stop"
    with pytest.raises(InferenceError) as caught:
        read(delta({"content": "a"}) + usage + DONE)
    assert caught.value.code == "incomplete_stream"


@pytest.mark.parametrize("end", [b"", b"data: [DONE]", b"data: [DONE]\n", b"data: [DO"])
def test_an_answer_has_ended_when_all_its_choices_have(end: bytes) -> None:
    assert read(delta({"content": "a"}) + STOP + end)[0]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("cut", [2, 1])
def test_a_last_chunk_may_lack_its_empty_line(cut: int) -> None:
    assert read(delta({"content": "a"}) + STOP[:-cut])[0]["choices"][0]["finish_reason"] == "stop"


def test_a_last_chunk_that_is_cut_is_none() -> None:
    with pytest.raises(InferenceError) as caught:
        read(delta({"content": "a"}) + STOP[:-4])
    assert caught.value.code == "incomplete_stream"


def test_without_a_last_word_no_choice_that_was_asked_for_may_be_missing() -> None:
    reader = AnswerReader(CHAT, 100_000)
    assert len(list(reader.feed(delta({"content": "a"}, "stop")))) == 1
    with pytest.raises(InferenceError, match="1 choices of the 2 asked for"):
        reader.finish(2)
    said = AnswerReader(CHAT, 100_000)
    assert len(list(said.feed(delta({"content": "a"}, "stop") + DONE))) == 1
    assert len(json.loads(said.finish())["choices"]) == 1


@pytest.mark.parametrize("reason", ["abort", "error", "cancelled"])
def test_an_aborted_generation_is_a_failure(reason: str) -> None:
    with pytest.raises(InferenceError, match="aborted") as caught:
        read(delta({"content": "a"}) + delta(finish=reason) + DONE)
    assert caught.value.is_retryable


def test_the_error_of_a_choice_is_a_failure() -> None:
    failed = {
        "index": 0,
        "delta": {"content": ""},
        "finish_reason": "error",
        "error": {"code": 502, "message": "Provider returned error"},
    }
    with pytest.raises(InferenceError, match="Provider returned error") as caught:
        read(delta({"content": "a"}) + chunk(failed) + DONE)
    assert caught.value.status_code == 502


# --- what keeps a connection open ---

KEEP_ALIVES = [
    b": OPENROUTER PROCESSING\n\n",
    b": keep-alive\r\n\r\n",
    event(b""),
    event(b": PROCESSING"),
    event(b": OPENROUTER PROCESSING"),
    event(b"keep-alive"),
    event(b"KEEPALIVE"),
    event(b"ping"),
    event(b"[heartbeat]"),
    event(b"null"),
    event(b"{}"),
    event({"type": "ping"}),
    event({"type": "heartbeat", "timestamp": 17}),
    event({"event": "keepalive", "id": "x"}),
    event({"object": "heartbeat"}),
    event({"type": "ping"}, "ping"),
    event({"timestamp": 17, "id": "other"}, "heartbeat"),
    event(b"12:04", "keep-alive"),
    event({"timestamp": 17, "status": "processing"}),
    b"event: ping\n\n",
    b"retry: 3000\n\n",
    b"\n\n\r\n",
]


@pytest.mark.parametrize("busy", KEEP_ALIVES)
def test_keep_alives_are_no_part_of_an_answer(busy: bytes) -> None:
    parts = (delta({"content": "a"}), delta({"content": "b"}), STOP, DONE)
    assert read(busy + busy.join(parts)) == read(b"".join(parts))


@pytest.mark.parametrize("busy", KEEP_ALIVES[:-5])
def test_keep_alives_are_no_part_of_a_response(busy: bytes) -> None:
    last = event({"type": "response.completed", "response": {"id": "r", "output": [{"a": 1}]}})
    assert read(busy + last, RESPONSES) == read(last, RESPONSES)


def test_a_chunk_with_usage_alone_counts() -> None:
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    body, _ = read(delta({"content": "a"}) + STOP + event({"usage": usage}) + DONE)
    assert body["usage"] == usage


# --- whole streams of other servers ---

AZURE = (
    b'data: {"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":'
    b'[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]}\n\n'
    b'data: {"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,'
    b'"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":17,'
    b'"id":"chatcmpl-A","model":"gpt-4o","object":"chat.completion.chunk"}\n\n'
    b'data: {"choices":[{"content_filter_results":{"hate":{"filtered":false}},"delta":'
    b'{"content":"Hi"},"finish_reason":null,"index":0,"logprobs":null}],"created":17,'
    b'"id":"chatcmpl-A","model":"gpt-4o","object":"chat.completion.chunk"}\n\n'
    b'data: {"choices":[{"content_filter_offsets":{"check_offset":44},"content_filter_results":'
    b'{"violence":{"filtered":false}},"finish_reason":null,"index":0}],"created":0,"id":"",'
    b'"model":"","object":""}\n\n'
    b'data: {"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"stop","index":0,'
    b'"logprobs":null}],"created":17,"id":"chatcmpl-A","model":"gpt-4o",'
    b'"object":"chat.completion.chunk"}\n\ndata: [DONE]\n\n'
)
GROQ = (
    b'data: {"id":"chatcmpl-G","object":"chat.completion.chunk","created":17,"model":"llama",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],'
    b'"x_groq":{"id":"req_1"}}\n\n'
    b'data: {"id":"chatcmpl-G","object":"chat.completion.chunk","created":17,"model":"llama",'
    b'"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"chatcmpl-G","object":"chat.completion.chunk","created":17,"model":"llama",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    b'"x_groq":{"id":"req_1","usage":{"prompt_tokens":9,"completion_tokens":1}}}\n\n'
    b"data: [DONE]\n\n"
)
DEEPSEEK = (
    b": keep-alive\n\n: keep-alive\n\n"
    b'data: {"id":"d","object":"chat.completion.chunk","created":17,"model":"deepseek-reasoner",'
    b'"choices":[{"index":0,"delta":{"role":"assistant","content":null,"reasoning_content":"h"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
    b'data: {"id":"d","object":"chat.completion.chunk","created":17,"model":"deepseek-reasoner",'
    b'"choices":[{"index":0,"delta":{"content":null,"reasoning_content":"m"},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
    b'data: {"id":"d","object":"chat.completion.chunk","created":17,"model":"deepseek-reasoner",'
    b'"choices":[{"index":0,"delta":{"content":"Hi","reasoning_content":null},"logprobs":null,'
    b'"finish_reason":null}]}\n\n'
    b'data: {"id":"d","object":"chat.completion.chunk","created":17,"model":"deepseek-reasoner",'
    b'"choices":[{"index":0,"delta":{"content":"","reasoning_content":null},"logprobs":null,'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":3}}\n\n'
    b"data: [DONE]\n\n"
)
TGI = (
    b'data:{"object":"chat.completion.chunk","id":"","created":17,"model":"m",'
    b'"system_fingerprint":"3.0.1","choices":[{"index":0,"delta":{"role":"assistant","content":'
    b'"Hi"},"logprobs":null,"finish_reason":null}],"usage":null}\n\n'
    b'data:{"object":"chat.completion.chunk","id":"","created":17,"model":"m",'
    b'"system_fingerprint":"3.0.1","choices":[{"index":0,"delta":{"role":"assistant","content":'
    b'""},"logprobs":null,"finish_reason":"stop"}],"usage":null}\n\ndata:[DONE]\n\n'
)
OLLAMA = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":17,"model":"q",'
    b'"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant",'
    b'"content":"Hi"},"finish_reason":null}]}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":17,"model":"q",'
    b'"system_fingerprint":"fp_ollama","choices":[{"index":0,"delta":{"role":"assistant",'
    b'"content":""},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
GEMINI = (
    b'data: {"choices":[{"delta":{"content":"Hi","role":"assistant"},"index":0}],"created":17,'
    b'"id":"g","model":"gemini-2.5-flash","object":"chat.completion.chunk","usage":'
    b'{"completion_tokens":1,"prompt_tokens":4,"total_tokens":5}}\n\n'
    b'data: {"choices":[{"delta":{"role":"assistant"},"finish_reason":"stop","index":0}],'
    b'"created":17,"id":"g","model":"gemini-2.5-flash","object":"chat.completion.chunk","usage":'
    b'{"completion_tokens":2,"prompt_tokens":4,"total_tokens":6}}\n\ndata: [DONE]\n\n'
)
RECORDED = {
    "Azure": AZURE,
    "Groq": GROQ,
    "DeepSeek": DEEPSEEK,
    "TGI": TGI,
    "Ollama": OLLAMA,
    "Gemini": GEMINI,
}


@pytest.mark.parametrize("server", RECORDED)
def test_a_recorded_stream_gives_its_answer(server: str) -> None:
    body, text = read(RECORDED[server])
    [choice] = body["choices"]
    assert text == choice["message"]["content"] == "Hi"
    assert (choice["message"]["role"], choice["finish_reason"]) == ("assistant", "stop")
    assert body["object"] == "chat.completion"
    assert body["created"] == 17


def test_what_servers_add_of_their_own_is_in_the_answer() -> None:
    assert read(AZURE)[0]["prompt_filter_results"][0]["prompt_index"] == 0
    assert read(AZURE)[0]["id"] == "chatcmpl-A"
    assert read(GROQ)[0]["x_groq"]["usage"]["prompt_tokens"] == 9
    assert read(DEEPSEEK)[0]["choices"][0]["message"]["reasoning_content"] == "hm"
    assert read(GEMINI)[0]["usage"]["total_tokens"] == 6


@given(
    st.sampled_from(sorted(RECORDED)),
    st.sampled_from([b"\n", b"\r", b"\r\n"]),
    st.lists(st.integers(0, 10_000), max_size=12),
)
def test_how_a_recorded_stream_is_cut_changes_nothing(
    server: str, line_end: bytes, places: list[int]
) -> None:
    wire = RECORDED[server].replace(b"\n", line_end)
    inside = sorted(place % (len(wire) + 1) for place in places)

    def outcome(parts: Iterator[bytes]) -> tuple[bytes, list[Any]]:
        reader = AnswerReader(CHAT, 100_000)
        values = [value for part in parts for value in reader.feed(part)]
        return reader.finish(), values

    cut = (wire[a:b] for a, b in pairwise([0, *inside, len(wire)]))
    assert outcome(cut) == outcome(iter((RECORDED[server],)))
