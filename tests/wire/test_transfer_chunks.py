"""Chunks of the transfer coding that come whole, and what a parser finds in them."""

from __future__ import annotations

from httptools import HttpResponseParser
from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.wire.transfer_chunks import chunk_head, whole_chunks


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


LINES = st.sampled_from([b"%x", b"%x", b"%x", b"%X", b"0%x", b"%x ", b"%x;a=b", b"-%x", b"0x%x"])
BODIES = st.sampled_from([b"data: x\n\n", b"data: x\r\n\r\n", b"a" * 26, b"3\r\nabc", b"", b"\r\n"])
ENDS = st.sampled_from(
    [b"", b"0\r\n\r\n", b"0\r\n", b"0\r\nA: b\r\n\r\n", b"00\r\n\r\n", b"\r\n", b"3\r\nab"]
)


class Read:
    """What a parser makes of the body of a response."""

    def __init__(self, data: bytes) -> None:
        self.body, self.ends = b"", 0
        parser = HttpResponseParser(self)
        parser.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        parser.feed_data(data)
        before = self.body
        if not self.ends:
            # What comes next begins a chunk.
            parser.feed_data(b"1\r\n!\r\n")
            assert self.body == before + b"!"
        self.body = before

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.ends += 1


@given(st.lists(st.tuples(LINES, BODIES), max_size=4), ENDS, st.integers(0, 2))
@example([(b"%x", b"data: x\n\n")] * 3, b"0\r\n\r\n", 0)
@example([(b"%x", b"data: x\n\n")] * 3, b"", 0)
def test_whole_chunks_have_in_them_what_a_parser_finds(
    chunks: list[tuple[bytes, bytes]], end: bytes, cut: int
) -> None:
    data = b"".join(line % len(body) + b"\r\n" + body + b"\r\n" for line, body in chunks) + end
    found = whole_chunks(data[: len(data) - cut])
    plain = all(line == b"%x" and body and b"\r\n" not in body for line, body in chunks)
    if found is None:
        assert cut or not (plain and (chunks or end) and end in (b"", b"0\r\n\r\n"))
        return
    read = Read(data[: len(data) - cut])
    assert found == (read.body, read.ends == 1)


def test_what_follows_the_end_of_a_body_is_left_to_the_parser() -> None:
    assert whole_chunks(b"3\r\nabc\r\n0\r\n\r\n") == (b"abc", True)
    assert whole_chunks(b"3\r\nabc\r\n0\r\n\r\n0\r\n\r\n") is None
    assert whole_chunks(b"0\r\n\r\n3\r\nabc\r\n") is None
