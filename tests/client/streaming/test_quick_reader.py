"""Events that are as the one before are read quickly, and mean what the general way says."""

from __future__ import annotations

import json
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.client.streaming.quick_reader import QuickReader
from batch_gateway.wire.chunks import Chunk
from fuzz import quick_reader
from tests.linear_cost import assert_linear

CHAT = "/v1/chat/completions"
LAST = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'

ODD = st.binary(min_size=1, max_size=3)
RUNS = st.sampled_from(quick_reader.WORDS).map(str.encode)
RECIPES = st.tuples(st.binary(min_size=9, max_size=9), st.lists(RUNS | ODD, max_size=8))


@settings(max_examples=80)
@given(RECIPES)
def test_streams_of_all_kinds_are_read_as_the_general_way_reads_them(
    recipe: tuple[bytes, list[bytes]],
) -> None:
    start, rest = recipe
    quick_reader.check(start + b"".join(rest))


def event(text: str, end: bytes = b"\n\n") -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return b"data: " + json.dumps({"id": "1", "model": "m", "choices": [choice]}).encode() + end


def reader_of(*parts: bytes) -> tuple[QuickReader, list[Chunk]]:
    reader, chunks = QuickReader(CHAT, 10**9, 10**6), list[Chunk]()

    def put(more: Iterable[Chunk], _: int) -> None:
        chunks.extend(more)

    for part in parts:
        reader.take(part, put)
    return reader, chunks


def test_an_event_as_the_one_before_is_taken_by_what_was_learnt_from_that() -> None:
    for end in (b"\n\n", b"\r\n\r\n"):
        reader, _ = reader_of(event("one", end))
        more = event(" two", end) + event(' "three"\n', end) + event(" für", end)
        assert reader.ready is not None
        assert reader.ready.take(more, None) == len(more)


def test_chunks_that_were_not_decoded_have_all_that_the_server_sent() -> None:
    reader, chunks = reader_of(event("one"), event(" two") + event(" three"), LAST)
    assert [chunk.text for chunk in chunks] == ["one", " two", " three", ""]
    assert chunks[2].raw == json.loads(event(" three")[6:])
    assert chunks[2].raw is chunks[2].raw
    [choice] = json.loads(reader.finish())["choices"]
    assert choice["message"]["content"] == "one two three"
    assert reader.chunks == 4


def test_a_long_text_may_be_cut_anywhere() -> None:
    whole = event("one") + event("word " * 400) + event("two") + LAST
    for cut in range(0, len(whole), 7):
        reader, _ = reader_of(whole[:cut], whole[cut : cut + 900], whole[cut + 900 :])
        [choice] = json.loads(reader.finish())["choices"]
        assert choice["message"]["content"] == "one" + "word " * 400 + "two"


def test_an_answer_of_many_events_takes_as_long_as_it_is() -> None:
    def read(count: int) -> None:
        reader, _ = reader_of(*[event(" word")] * count, LAST)
        reader.finish()

    assert_linear(read, 5_000)


def test_an_answer_of_a_hundred_thousand_events_is_read_whole() -> None:
    words = [f" {number}" for number in range(1_000)]
    block = b"".join(map(event, words))
    reader, _ = reader_of(event("first"), *[block] * 100, LAST)
    [choice] = json.loads(reader.finish())["choices"]
    assert choice["message"]["content"] == "first" + "".join(words) * 100
