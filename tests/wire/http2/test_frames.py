"""Frames: what is written is read again, however it is cut; what is no frame is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.http2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITISED,
    RST_STREAM,
    WINDOW_UPDATE,
    Frame,
    FrameReader,
    content,
    data_frame,
    frame,
    goaway_frame,
    header_frames,
    ping_ack,
    read_goaway,
    read_reset,
    read_window_update,
    reset_frame,
    window_update,
)
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError, code_name

BYTES = st.integers(0, 255)
STREAMS = st.integers(0, 2**31 - 1)
WORDS = st.integers(0, 2**32 - 1)
FRAMES = st.tuples(BYTES, BYTES, STREAMS, st.binary(max_size=300))


def read(data: bytes, limit: int = 2**14) -> list[Frame]:
    """The frames of `data`, of which nothing may be left over."""
    reader = FrameReader(limit)
    frames = list(reader.feed(data))
    assert reader.held == 0
    return frames


@given(st.lists(FRAMES, max_size=8), st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_frames_arrive_as_they_were_sent_however_they_are_cut(
    frames: list[Frame], sizes: list[int]
) -> None:
    wire = b"".join(frame(*one) for one in frames)
    reader = FrameReader(300)
    found: list[Frame] = []
    turn = 0
    while wire:
        size = sizes[turn % len(sizes)]
        found += reader.feed(wire[:size])
        wire = wire[size:]
        turn += 1
    assert found == frames
    assert reader.held == 0


def test_a_frame_is_laid_out_as_rfc_9113_says() -> None:
    assert frame(HEADERS, 5, 0x01020304, b"ab") == b"\0\0\2\1\5\1\2\3\4ab"
    assert frame(DATA, 0, 1, bytes(0x012345))[:3] == b"\x01\x23\x45"


def test_the_reserved_bit_of_a_stream_number_is_ignored() -> None:
    assert read(frame(PING, 0, 2**31 + 7, bytes(8))) == [(PING, 0, 7, bytes(8))]


@given(st.integers(0, 40), st.integers(1, 40))
def test_a_frame_that_is_too_large_is_refused_behind_those_before_it(
    limit: int, excess: int
) -> None:
    size = limit + excess
    fits = frame(DATA, 0, 1, bytes(limit))
    arriving = FrameReader(limit).feed(fits + frame(DATA, 0, 1, bytes(size)))
    assert next(arriving) == (DATA, 0, 1, bytes(limit))
    with pytest.raises(ProtocolError) as caught:
        next(arriving)
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR
    assert caught.value.problem == f"a frame of {size} bytes, where {limit} are the most"


@given(st.binary(max_size=40), st.integers(0, 255), st.booleans())
def test_what_a_frame_carries_is_without_padding_and_priority(
    carried: bytes, padding: int, prioritised: bool
) -> None:
    flags = PADDED | (PRIORITISED if prioritised else 0)
    payload = bytes((padding,)) + bytes(5 if prioritised else 0) + carried + bytes(padding)
    assert content(HEADERS, flags, payload) == carried
    assert content(DATA, 0, carried) == carried


@pytest.mark.parametrize(
    ("kind", "flags", "payload", "code"),
    [
        (DATA, PADDED, b"", ErrorCode.FRAME_SIZE_ERROR),
        (DATA, PADDED, b"\x01", ErrorCode.PROTOCOL_ERROR),
        (DATA, PADDED, b"\x04abc", ErrorCode.PROTOCOL_ERROR),
        (HEADERS, PRIORITISED, b"1234", ErrorCode.PROTOCOL_ERROR),
        (HEADERS, PADDED | PRIORITISED, b"\x0112345", ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_more_padding_or_priority_than_frame_is_refused(
    kind: int, flags: int, payload: bytes, code: ErrorCode
) -> None:
    with pytest.raises(ProtocolError) as caught:
        content(kind, flags, payload)
    assert caught.value.code is code


@given(STREAMS, st.binary(max_size=100), st.integers(1, 30), st.booleans())
def test_a_header_block_goes_into_as_many_frames_as_it_needs(
    stream: int, block: bytes, largest: int, end: bool
) -> None:
    frames = read(header_frames(stream, block, largest, end=end))
    assert b"".join(payload for *_, payload in frames) == block
    assert all(len(payload) <= largest for *_, payload in frames)
    assert [kind for kind, *_ in frames] == [HEADERS] + [CONTINUATION] * (len(frames) - 1)
    assert {number for _, _, number, _ in frames} == {stream}
    flags = [flags for _, flags, _, _ in frames]
    assert [bool(one & END_HEADERS) for one in flags] == [False] * (len(frames) - 1) + [True]
    assert [bool(one & END_STREAM) for one in flags] == [end] + [False] * (len(frames) - 1)


@given(STREAMS, WORDS, st.binary(max_size=20))
def test_small_frames_say_what_they_were_told(stream: int, code: int, said: bytes) -> None:
    wire = reset_frame(stream, code) + window_update(stream, code) + data_frame(1, said, end=True)
    reset, update, data = read(wire)
    assert reset[:3] == (RST_STREAM, 0, stream)
    assert read_reset(reset[3]) == code
    assert update[:3] == (WINDOW_UPDATE, 0, stream)
    assert read_window_update(update[3]) == code & 0x7FFFFFFF
    assert data == (DATA, END_STREAM, 1, said)
    assert read(ping_ack(bytes(8))) == [(PING, 1, 0, bytes(8))]


@given(STREAMS, WORDS, st.text(st.characters(codec="ascii"), max_size=120))
def test_a_farewell_is_quoted_shortly_and_in_printable_text(
    last: int, code: int, said: str
) -> None:
    ((kind, flags, stream, payload),) = read(goaway_frame(last, code, said.encode()))
    assert (kind, flags, stream) == (GOAWAY, 0, 0)
    quoted = "".join(c if c.isprintable() else "?" for c in said[:80])
    assert read_goaway(payload) == (last, code, quoted)


@pytest.mark.parametrize("broken", [b"", b"123", b"12345"])
def test_small_frames_of_a_broken_length_are_refused(broken: bytes) -> None:
    for read_payload in (read_reset, read_window_update, read_goaway):
        with pytest.raises(ProtocolError, match="of a broken length") as caught:
            read_payload(broken)
        assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_error_codes_are_named_where_they_have_names() -> None:
    assert code_name(11) == "ENHANCE_YOUR_CALM"
    assert code_name(4711) == "error 4711"
