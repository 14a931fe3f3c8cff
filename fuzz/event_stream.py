"""Coverage-guided fuzzing of streamed answers: server-sent events, chunks, the assembled body.

    pip install atheris
    python -m fuzz.event_stream --seconds 300

An input is a stream as a server might send it; its first byte says which endpoint's it is, the
next two where it is cut and how many bytes arrive at a time. A finding is written to `crash-…` in
the working directory: make it a seed in `fuzz/seeds/event_stream`, under a name that says what it
is, and the tests will check it from then on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.errors import InferenceError
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "event_stream"
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
WORDS = (
    *("data: ", "data:", "event: error", "id: ", "retry: ", ": ", "\n\n", "\r\n\r\n", "\r"),
    *("[DONE]", '{"choices":[', '"delta":{', '"index":0', '"content":"', '"role":"assistant"'),
    *(
        '"tool_calls":[{"index":0,',
        '"function":{"name":"f","arguments":"',
        '"finish_reason":"stop"',
    ),
    *(
        '"logprobs":{"content":[',
        '"usage":{',
        '"error":{"code":429}',
        '"text":"',
        "\\ud83d",
        "null",
    ),
    *("error: {", "event: ping", "data: null", '"reasoning_details":[{"index":0,', '"index":"0"'),
    *('"content":[{"type":"thinking","thinking":[', '"id":"a"', '"detail":"', '"output":[]'),
    *("event: response.output_item.done", "event: response.completed", "1e999", '"output_index":0'),
    *('{"type":"response.completed","response":{', '{"type":"response.failed"', "\ufeff"),
)
EVENT_LIMIT = 500
ANSWER_LIMIT = 1000

Verdict = bytes | tuple[type[InferenceError], str]


def pieces(wire: bytes, first: int, step: int) -> Iterator[bytes]:
    """`wire` as it might arrive: `first` bytes, then `step` at a time (0: all the rest)."""
    yield wire[:first]
    for start in range(first, len(wire), step or max(1, len(wire))):
        yield wire[start : start + (step or len(wire))]


def read(endpoint: str, parts: Iterator[bytes]) -> Verdict:
    """What a reader makes of it: the body of an answer, or an error."""
    reader = AnswerReader(endpoint, ANSWER_LIMIT, EVENT_LIMIT)
    try:
        for part in parts:
            for value in reader.feed(part):
                reader.typed(value)
            if reader.complete:
                break
        return reader.finish()
    except InferenceError as error:
        assert 0 < len(error.message) < 500, error.message
        assert "\n" not in error.message
        return type(error), error.message


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the reader.

    Nothing but an answer or an InferenceError comes out; an answer is a JSON object within its
    limit; and how the bytes were cut does not change what was read.
    """
    head = data[:3].ljust(3, b"\0")
    endpoint, wire = ENDPOINTS[head[0] % len(ENDPOINTS)], data[3:]
    whole = read(endpoint, iter([wire]))
    cut = read(endpoint, pieces(wire, head[1], head[2]))
    assert whole == cut, (whole, cut)
    if isinstance(whole, bytes):
        assert isinstance(json.loads(whole), dict)
        # Text may be escaped, six bytes for one; names and brackets come on top.
        assert len(whole) <= 10 * ANSWER_LIMIT


if __name__ == "__main__":
    run(check, "streamed answers", SEEDS, WORDS)
