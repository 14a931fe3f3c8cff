"""How a whole chunk of the transfer coding begins, by its size."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.wire.transfer_chunks import chunk_head


@given(st.integers(1, 70_000))
@example(0x0F)
@example(0x10)
@example(0xFFFF)
@example(0x10000)
def test_the_first_line_of_a_chunk_is_known_by_the_size_of_all_of_it(size: int) -> None:
    body = b"x" * size
    whole = b"%x\r\n%b\r\n" % (size, body)
    assert chunk_head(len(whole)) + body + b"\r\n" == whole


@given(st.integers(5, 70_000))
def test_no_chunk_has_another_size_than_its_first_line_says(size: int) -> None:
    head = chunk_head(size)
    # It is longer where no chunk is so long.
    if len(head) <= size:
        assert len(head) + int(head, 16) + len(b"\r\n") == size
