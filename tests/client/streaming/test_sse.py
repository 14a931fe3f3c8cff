"""Server-sent events by the rules of the HTML standard, however their bytes are cut."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.sse import EventTooLargeError, ServerSentEvent, SSEDecoder

Event = ServerSentEvent


def decode(*parts: bytes, limit: int = 10_000) -> list[Event]:
    decoder = SSEDecoder(limit)
    return [event for part in parts for event in decoder.feed(part)]


def cut(wire: bytes, places: list[int]) -> list[bytes]:
    inside = sorted(place % (len(wire) + 1) for place in places)
    return [wire[a:b] for a, b in pairwise([0, *inside, len(wire)])]


@pytest.mark.parametrize(
    ("wire", "events"),
    [
        (b"data: a\n\n", [Event(b"a")]),
        (b"data:a\n\n", [Event(b"a")]),
        (b"data:  a\n\n", [Event(b" a")]),
        (b"data: a\r\n\r\n", [Event(b"a")]),
        (b"data: a\r\rdata: b\r\r", [Event(b"a"), Event(b"b")]),
        (b"data: a\r\n\ndata: b\n\r\n", [Event(b"a"), Event(b"b")]),
        (b"data: a\ndata: b\ndata\n\n", [Event(b"a\nb\n")]),
        (b"data\n\n", [Event(b"")]),
        (b"data\ndata\n\n", [Event(b"\n")]),
        (b": a comment\n:\n\n\ndata: a\n:b\n\n", [Event(b"a")]),
        (b"event: ping\n\n", []),
        (b"event: ping\n\ndata: a\n\n", [Event(b"a")]),
        (b"event: chunk\ndata: a\n\ndata: b\n\n", [Event(b"a", "chunk"), Event(b"b")]),
        (b"id: 7\ndata: a\n\ndata: b\n\n", [Event(b"a", id="7"), Event(b"b", id="7")]),
        (b"id: 7\0\ndata: a\n\n", [Event(b"a")]),
        (b"id: 7\ndata: a\nid\n\n", [Event(b"a")]),
        (b"colour: red\nDATA: b\ndata: a\n\n", [Event(b"a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [Event(b"a")]),
        (b"data: a\n\ndata: cut off", [Event(b"a")]),
        (b"data: a\n\ndata: no blank line\n", [Event(b"a")]),
        (b"data: \xf0\x9f\x98\x80\n\n", [Event("😀".encode())]),
        (b"data: a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n\n", None),
        (b"", []),
        (b"\n\n\n", []),
    ],
)
def test_events_are_read_as_the_standard_says(wire: bytes, events: list[Event] | None) -> None:
    expected = [Event(wire[6:-2])] if events is None else events
    assert decode(wire) == expected
    assert decode(*(bytes([byte]) for byte in wire)) == expected


def test_a_reconnection_time_is_noted() -> None:
    decoder = SSEDecoder()
    assert list(decoder.feed(b"retry: 2500\nretry: soon\n\n")) == []
    assert decoder.retry_ms == 2500


def test_what_is_not_utf_8_is_kept_as_bytes_and_shown_as_a_replacement() -> None:
    [event] = decode(b"data: a\xff\n\n")
    assert (event.data, event.text) == (b"a\xff", "a\ufffd")


LINES = st.one_of(
    st.sampled_from(
        [b"data: x", b"data", b"event: e", b"id: 1", b": c", b"", b"", b"x", b"retry: 1"]
    ),
    st.binary(max_size=8).map(lambda data: b"data: " + data),
    st.text(max_size=4).map(lambda text: text.encode()),
)
WIRES = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=30).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@given(st.one_of(WIRES, st.binary(max_size=200)), st.lists(st.integers(0, 10_000), max_size=20))
def test_any_cut_of_any_bytes_gives_the_same_events(wire: bytes, places: list[int]) -> None:
    assert decode(*cut(wire, places)) == decode(wire)


@given(WIRES, st.lists(st.integers(0, 10_000), max_size=20), st.integers(1, 12))
def test_a_limit_strikes_at_the_same_event_however_the_bytes_are_cut(
    wire: bytes, places: list[int], limit: int
) -> None:
    def read(*parts: bytes) -> tuple[list[Event], bool]:
        events: list[Event] = []
        decoder = SSEDecoder(limit)
        try:
            for part in parts:
                events.extend(decoder.feed(part))
                # What has no end yet may be over the limit now or when it ends.
        except EventTooLargeError:
            return events, True
        return events, False

    closed = wire + b"\n"
    assert read(*cut(closed, places)) == read(closed)


TEXTS = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["message", "chunk"]))), st.data())
def test_what_a_server_sends_is_what_arrives(
    sent: list[tuple[str, str]], data: st.DataObject
) -> None:
    wire = b"".join(f"event: {name}\ndata: {text}\n\n".encode() for text, name in sent)
    places = data.draw(st.lists(st.integers(0, 10_000), max_size=10))
    received = decode(*cut(wire, places), limit=1_000_000)
    assert [(event.text, event.event) for event in received] == sent


@pytest.mark.parametrize(
    "endless", [b"data: xxxxxxx\n", b"data\n", b"x" * 1000, b": comment without an end "]
)
def test_an_event_without_an_end_does_not_fill_memory(endless: bytes) -> None:
    limit = 100_000
    decoder = SSEDecoder(limit)
    tracemalloc.start()
    try:
        with pytest.raises(EventTooLargeError):  # noqa: PT012
            for _ in range(200_000):
                for _event in decoder.feed(endless):
                    pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5 * limit


def test_events_before_one_that_is_too_large_are_still_given() -> None:
    decoder = SSEDecoder(10)
    events = decoder.feed(b"data: a\n\ndata: b\n\ndata: " + b"x" * 20 + b"\n\n")
    assert [next(events).data, next(events).data] == [b"a", b"b"]
    with pytest.raises(EventTooLargeError, match="larger than 10 bytes"):
        next(events)
