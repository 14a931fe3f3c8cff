"""Answers that come in one piece are read without the parser, and just as it reads them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.errors import InferenceError
from batch_gateway.http.response_reader import ResponseReader
from batch_gateway.http.usual_response import usual_response, usual_stream
from batch_gateway.wire.headers import Headers

LIMIT = 100
OK = b"HTTP/1.1 200 OK\r\n"

LINES = st.sampled_from(
    [
        b"Content-Length: %d",
        b"content-length:%d",
        b"Content-Length: 0%d",
        b"Connection: keep-alive",
        b"connection:Keep-Alive",
        b"Connection: close",
        b"Keep-Alive: timeout=5",
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Upgrade: h2c",
        b"Content-Type: application/json",
        b"X-Words: two  words \xe9",
        b"X-Nothing:",
        b"X-Blanks:   a ",
        b"X-Tab:\ta",
        b"X-Colon: a:b",
        b"X-Stray: a\rb",
        b"X-Stray: a\nb",
        b"X-Zero: \x00",
        b"A name: b",
        b"X-Before : b",
        b" folded",
        b"HTTP/1.1 200 OK",
        b"no colon",
        b": no name",
        b"",
    ]
)
STARTS = st.sampled_from(
    [OK, OK, OK, b"HTTP/1.1 200\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 OK\r\n", b""]
)


@given(STARTS, st.lists(LINES, max_size=5), st.binary(max_size=LIMIT + 1), st.integers(-1, 1))
@example(OK, [b"Content-Type: application/json", b"Content-Length: %d"], b"{}", 0)
def test_what_is_taken_is_what_the_parser_reads(
    start: bytes, lines: list[bytes], body: bytes, off: int
) -> None:
    head = start + b"".join(line.replace(b"%d", b"%d" % len(body)) + b"\r\n" for line in lines)
    data = head + b"\r\n" + body + b"x" * off
    data = data[:-1] if off < 0 else data
    usual = usual_response(data, LIMIT)
    if usual is None:
        return
    reader = ResponseReader("gateway:1", LIMIT)
    read = reader.feed(data)
    assert read is not None
    assert reader.keep_alive
    assert (read.status_code, read.body) == (usual.status_code, usual.body)
    assert (read.coding, read.undecodable) == (usual.coding, usual.undecodable)
    assert [*read.headers.raw] == [*usual.headers.raw]


class Told:
    """What a streamed response says of itself to who reads its body."""

    def __init__(self) -> None:
        self.heads: list[tuple[int, Headers]] = []
        self.body = b""

    def head_received(self, status_code: int, headers: Headers) -> None:
        self.heads.append((status_code, headers))

    def body_received(self, data: bytes) -> None:
        self.body += data


@given(STARTS, st.lists(LINES, max_size=5), st.sampled_from([b"", b"3\r\nabc\r\n"]))
@example(OK, [b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked"], b"")
def test_a_head_that_is_taken_is_that_of_chunks_to_the_parser(
    start: bytes, lines: list[bytes], rest: bytes
) -> None:
    data = start + b"".join(line.replace(b"%d", b"3") + b"\r\n" for line in lines) + b"\r\n" + rest
    usual = usual_stream(data)
    if usual is None:
        return
    reader, told = ResponseReader("gateway:1", LIMIT), Told()
    reader.begin(told)
    assert reader.feed(data) is None
    [(status, headers)] = told.heads
    assert usual[1] == rest
    assert (status, told.body, [*headers.raw]) == (200, rest[3:6], [*usual[0].raw])
    assert reader.feed(b"3\r\ndef\r\n0\r\n\r\n") is not None
    assert reader.keep_alive


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"Content-Length: 2"], id="nothing but a length"),
        pytest.param([b"content-length:2", b"Connection: Keep-Alive"], id="kept"),
        pytest.param([b"Content-Length: 2", b"X-Words: a, b: \xe9", b"X-Nothing:"], id="others"),
    ],
)
def test_an_answer_of_the_usual_form_is_taken(lines: list[bytes]) -> None:
    usual = usual_response(OK + b"\r\n".join([*lines, b"", b"{}"]), LIMIT)
    assert usual is not None
    assert usual.body == b"{}"
    assert usual.headers["Content-Length"] == "2"
    assert usual.headers.first(b"content-length") == b"2"
    assert usual.headers.first(b"length") is None
    assert len(usual.headers) == len(lines)


def test_lengths_that_add_up_to_that_of_the_body_are_no_length() -> None:
    body = b"{}" * 10
    head = OK + b"Content-Length: 8\r\nContent-Length: 12\r\n\r\n"
    assert usual_response(head + body, LIMIT) is None
    with pytest.raises(InferenceError):
        ResponseReader("gateway:1", LIMIT).feed(head + body)
