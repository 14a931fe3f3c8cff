"""SETTINGS: in and out, and the values that nobody may send."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.http2.frames import ACK, SETTINGS, FrameReader
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError
from batch_gateway.wire.http2.settings import (
    ENABLE_PUSH,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_FRAME_SIZE,
    SETTINGS_ACK,
    read_settings,
    settings_frame,
)

ENTRIES = st.tuples(st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1))


def forbidden(name: int, value: int) -> ErrorCode | None:
    """What RFC 9113 §6.5.2 says of a value."""
    if name == ENABLE_PUSH and value not in (0, 1):
        return ErrorCode.PROTOCOL_ERROR
    if name == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
        return ErrorCode.FLOW_CONTROL_ERROR
    if name == MAX_FRAME_SIZE and not 16_384 <= value <= 16_777_215:
        return ErrorCode.PROTOCOL_ERROR
    return None


@given(st.lists(ENTRIES | st.tuples(st.integers(1, 6), st.integers(0, 2**32 - 1)), max_size=8))
def test_settings_arrive_in_order_unless_one_is_forbidden(entries: list[tuple[int, int]]) -> None:
    ((kind, flags, stream, payload),) = FrameReader(2**14).feed(settings_frame(entries))
    assert (kind, flags, stream) == (SETTINGS, 0, 0)
    codes = [code for entry in entries if (code := forbidden(*entry)) is not None]
    if codes:
        with pytest.raises(ProtocolError) as caught:
            read_settings(payload)
        assert caught.value.code is codes[0]
    else:
        assert read_settings(payload) == entries


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (ENABLE_PUSH, 1),
        (INITIAL_WINDOW_SIZE, 2**31 - 1),
        (MAX_FRAME_SIZE, 2**14),
        (MAX_FRAME_SIZE, 2**24 - 1),
    ],
)
def test_values_at_the_edge_of_what_is_allowed_are_taken(name: int, value: int) -> None:
    assert forbidden(name, value) is None
    wire = settings_frame([(name, value)])
    assert read_settings(wire[9:]) == [(name, value)]


def test_settings_of_a_broken_length_are_refused() -> None:
    with pytest.raises(ProtocolError, match="SETTINGS of a broken length") as caught:
        read_settings(b"12345")
    assert caught.value.code is ErrorCode.FRAME_SIZE_ERROR


def test_an_acknowledgement_is_empty() -> None:
    assert list(FrameReader(0).feed(SETTINGS_ACK)) == [(SETTINGS, ACK, 0, b"")]
