"""Header blocks: what is written without a table every decoder reads; what is none is refused."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder
from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.wire.http2.header_blocks import (
    MAX_HEADER_LIST,
    OpenBlock,
    decode_block,
    field,
)
from batch_gateway.wire.http2.http2_errors import ErrorCode, ProtocolError

TEXT = st.text(st.characters(max_codepoint=255), max_size=40)
LONG = st.integers(120, 400).map(lambda size: "x" * size) | st.just("y" * 20_000)


@given(st.lists(st.tuples(TEXT, TEXT | LONG), max_size=5))
def test_what_is_written_is_read_and_enters_no_table(fields: list[tuple[str, str]]) -> None:
    decoder = Decoder(10 * MAX_HEADER_LIST)
    decoder.header_table_size = decoder.max_allowed_table_size = 0
    block = b"".join(field(*one) for one in fields)
    assert decode_block(decoder, block) == [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in fields
    ]


def test_a_table_is_kept_for_who_uses_one() -> None:
    encoder, decoder = Encoder(), Decoder(MAX_HEADER_LIST)
    fields = [(b"x-name", b"value")]
    first, second = encoder.encode(fields), encoder.encode(fields)
    assert len(second) < len(first)
    assert decode_block(decoder, first) == decode_block(decoder, second) == fields


@example(b"\xff" * 3000 + b"\x01")  # a number without end
@given(st.binary(max_size=60))
def test_any_bytes_are_a_block_or_a_broken_rule(block: bytes) -> None:
    try:
        fields = decode_block(Decoder(MAX_HEADER_LIST), block)
    except ProtocolError as error:
        codes = (ErrorCode.COMPRESSION_ERROR, ErrorCode.ENHANCE_YOUR_CALM)
        assert error.code in codes  # noqa: PT017 - an error is one of two right outcomes
    else:
        assert all(type(name) is type(value) is bytes for name, value in fields)


def test_a_bomb_of_headers_is_refused() -> None:
    with pytest.raises(ProtocolError, match="more than 65536 bytes of headers") as caught:
        decode_block(Decoder(MAX_HEADER_LIST), b"\x82" * 2000)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_block_grows_in_pieces_up_to_its_limit() -> None:
    block = OpenBlock(3, b"a", end=True)
    block.append(b"b" * (MAX_HEADER_LIST - 1))
    assert bytes(block.data) == b"a" + b"b" * (MAX_HEADER_LIST - 1)
    with pytest.raises(ProtocolError) as caught:
        block.append(b"c")
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


def test_a_block_in_ever_more_frames_is_refused() -> None:
    block = OpenBlock(3, b"", end=False)
    for _ in range(32):
        block.append(b"")
    with pytest.raises(ProtocolError):
        block.append(b"")
