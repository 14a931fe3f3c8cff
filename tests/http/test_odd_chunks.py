"""Chunks with any ends of lines, as a parser of regular ones must get them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.http.odd_chunks import RegularChunks

ENDS = st.sampled_from([b"\n", b"\r\n"])


@given(
    data=st.data(),
    pieces=st.lists(st.binary(min_size=1, max_size=20), max_size=5),
    trailer=st.sampled_from([b"", b"X-A: b"]),
    step=st.integers(1, 9),
)
def test_chunks_come_out_regular_however_their_lines_end_and_they_are_cut(
    data: st.DataObject, pieces: list[bytes], trailer: bytes, step: int
) -> None:
    wire, regular = b"", b""
    for piece in (*pieces, b""):
        size = b"%x" % len(piece)
        wire += size + data.draw(st.sampled_from([b"", b" ", b";a=b"])) + data.draw(ENDS)
        regular += size + b"\r\n"
        if piece:
            wire += piece + data.draw(ENDS)
            regular += piece + b"\r\n"
    if trailer:
        wire += trailer + data.draw(ENDS)
    wire += data.draw(ENDS)
    chunks = RegularChunks()
    made = b"".join(chunks.feed(wire[at : at + step]) for at in range(0, len(wire), step))
    assert made == regular + b"\r\n"


@pytest.mark.parametrize(
    "wire", [b"x\n", b"\n", b"-1\n", b"0x2\n{}\n", b"2\n{}{\n", b"f" * 16 + b"\n"]
)
def test_what_is_no_chunk_is_left_for_the_parser_to_refuse(wire: bytes) -> None:
    assert b"?" in RegularChunks().feed(wire)
