"""What a stream costs depends on the answer that is kept, and is counted as what it is."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.errors import BadResponseError, InferenceError

PADDING = "x" * 200
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","padding":"'
    + PADDING.encode()
    + b'","choices":[{"index":0,"delta":{"content":"word "},"finish_reason":null}]}\n\n'
)
COUNT = 10_000
CHAT = "/v1/chat/completions"


def test_the_events_of_an_answer_leave_only_their_text_behind() -> None:
    reader = AnswerReader(CHAT, 10_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(COUNT // 50):
            for value in reader.feed(CHUNK * 50):
                del value
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    text = COUNT * len("word ")
    assert kept < 1.5 * text + 50_000
    # While a growing text moves, it is there twice.
    assert peak < 2.5 * text + 100_000


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def choice(fields: dict[str, Any], index: int = 0, more: dict[str, Any] | None = None) -> bytes:
    return event({"choices": [{"index": index, "delta": fields, **(more or {})}]})


def tool_call(**fields: Any) -> bytes:
    return choice({"tool_calls": [{"function": {"name": "f", "arguments": "{}"}, **fields}]})


ENDLESS: dict[str, Callable[[int], bytes]] = {
    "text": lambda _: choice({"content": "word " * 10}),
    "fields of a message": lambda n: choice({f"f{n}": 1}),
    "fields that are null": lambda n: choice({f"f{n}": None}),
    "fields of text": lambda n: choice({f"f{n}": "x"}),
    "objects": lambda n: choice({f"f{n}": {"text": "x"}}),
    "fields of an object": lambda n: choice({"audio": {f"f{n}": {"data": "x"}}}),
    "lists": lambda n: choice({f"f{n}": [1]}),
    "entries with an index": lambda n: choice({"list": [{"index": n, "text": "x"}]}),
    "entries of many types": lambda n: choice({"list": [{"index": 0, "type": f"t{n}"}]}),
    "tool calls": lambda n: tool_call(index=n, id=f"call-{n}"),
    "tool calls of one index": lambda n: tool_call(index=0, id=f"call-{n}"),
    "tool calls without an id": lambda _: tool_call(),
    "ids": lambda n: choice({"tool_calls": [{"index": 0, "id": f"call-{n}"}]}),
    "parts": lambda _: choice({"content": [{"type": "image_url"}]}),
    "choices": lambda n: choice({}, n),
    "choices with text": lambda n: choice({"content": "x"}, n),
    "fields of a choice": lambda n: choice({}, more={f"f{n}": 1}),
    "lists of a choice": lambda n: choice({}, more={f"f{n}": [1]}),
    "log probabilities": lambda n: choice({"content": "x"}, more={"logprobs": {f"f{n}": [1]}}),
    "fields of the answer": lambda n: event({"choices": [], f"f{n}": 1}),
    "objects of the answer": lambda n: event({"choices": [], f"f{n}": {"a": [1]}}),
    "wide text of the answer": lambda n: event({"choices": [], f"f{n}": "😀" + "x" * 300}),
}


def peak_until_too_large(events: Iterator[bytes], limit: int) -> int:
    reader = AnswerReader(CHAT, limit)
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(BadResponseError, match="max_response_bytes"):  # noqa: PT012
            for one in events:
                for value in reader.feed(one):
                    del value
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ENDLESS)
def test_what_an_entry_costs_is_counted(kind: str) -> None:
    limit = 400_000
    peak = peak_until_too_large((ENDLESS[kind](number) for number in count()), limit)
    assert limit / 2 < peak < 2 * limit


def test_a_last_event_of_many_fields_is_not_unpacked() -> None:
    item = {"type": "message", "content": [{f"f{number}": 1 for number in range(100_000)}]}
    last = {"type": "response.completed", "response": {"status": "completed", "output": [item]}}
    wire = event(last)
    pieces = [wire[start : start + 65_536] for start in range(0, len(wire), 65_536)]
    reader = AnswerReader("/v1/responses", 10_000_000, 10_000_000)
    gc.collect()
    tracemalloc.start()
    try:
        for piece in pieces:
            for value in reader.feed(piece):
                del value
        body = reader.finish()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert json.loads(body) == last["response"]
    assert peak < 4 * len(wire)


ALIKE: dict[str, Callable[[int], bytes]] = {
    "names": lambda n: choice(
        {"tool_calls": [{"index": 0, "id": "a", "function": {"name": f"name-{n % 10}"}}]}
    ),
    "names said again": lambda _: choice({"name": "x" * 50}),
    "arguments that look whole": lambda _: tool_call(index=0, id="a"),
    "ids of one call": lambda n: choice({"tool_calls": [{"index": 0, "id": f"call-{n}"}]}),
    "text, then parts": lambda n: choice({"content": "x" if n % 2 else [{"type": "text"}]}),
    "lines without an end": lambda _: b"data: xxxxxxxx",
    "lines of data": lambda _: b"data: x\n",
    "empty lines": lambda _: b"\n\r\n",
    "comments": lambda _: b": x\n",
    "objects of the answer": lambda n: event({"choices": [], "x": {"n": n}}),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_the_cost_grows_with_the_length_alone(kind: str) -> None:
    def seconds(events: int) -> float:
        wires = [ALIKE[kind](number) for number in range(events)]
        reader = AnswerReader(CHAT, 1_000_000_000, 1_000_000_000)
        began = time.process_time()
        for wire in wires:
            for _ in reader.feed(wire):
                pass
        with suppress(InferenceError):
            reader.finish()
        return time.process_time() - began

    few = min(seconds(2_000) for _ in range(3))
    # Eight times as much; were it quadratic, sixty-four times.
    assert min(seconds(16_000) for _ in range(2)) < 24 * max(few, 0.002)
