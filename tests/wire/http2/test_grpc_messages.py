"""gRPC messages: what is sent is read again, however it is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.wire.http2.frames import data_frame
from batch_gateway.wire.http2.grpc_messages import (
    CompressedMessageError,
    MessageError,
    MessageReader,
    MessageTooLargeError,
    message_frame,
    prefixed,
)
from tests.wire.http2.cutting import cut


@given(
    st.lists(st.binary(max_size=300), max_size=8),
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_messages_arrive_as_they_were_sent_however_they_are_cut(
    messages: list[bytes], sizes: list[int]
) -> None:
    wire = b"".join(map(prefixed, messages))
    reader = MessageReader(300)
    for piece in cut(wire, sizes):
        reader.feed(piece)
    assert list(reader.messages) == messages
    assert reader.held == 0


def test_what_is_not_complete_is_held() -> None:
    reader = MessageReader(300)
    reader.feed(prefixed(b"one") + prefixed(b"two")[:-1])
    assert list(reader.messages) == [b"one"]
    assert reader.held == 7


@pytest.mark.parametrize(
    ("broken", "error", "text"),
    [
        (b"\x01\x00\x00\x00\x01x", CompressedMessageError, "a compressed message, which it was"),
        (prefixed(b"12345"), MessageTooLargeError, "a message of 5 bytes, where 4 are the most"),
    ],
)
def test_a_message_that_cannot_be_taken_is_named_and_those_before_it_are_kept(
    broken: bytes, error: type[MessageError], text: str
) -> None:
    reader = MessageReader(4)
    with pytest.raises(error, match=text):
        reader.feed(prefixed(b"1234") + broken)
    assert list(reader.messages) == [b"1234"]


@given(st.integers(1, 2**31 - 1), st.binary(max_size=300), st.booleans())
def test_a_message_in_a_frame_of_its_own_is_a_frame_with_a_message(
    stream: int, message: bytes, end: bool
) -> None:
    assert message_frame(stream, message, end=end) == data_frame(stream, prefixed(message), end=end)


def test_the_prefix_is_as_grpc_says() -> None:
    assert prefixed(b"abc") == b"\x00\x00\x00\x00\x03abc"
