"""Properties of the reader: how bytes are cut never matters, and garbage is told as such."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_gateway.errors import BadResponseError, GatewayConnectionError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.response_reader import ResponseReader

LIMIT = 4096
Outcome = tuple[object, ...]


def read(pieces: Iterable[bytes], reader: ResponseReader | None = None) -> Outcome:
    """What comes of a response that arrives in these pieces and then the connection's end."""
    reader = reader or ResponseReader("gateway:1", LIMIT)
    reader.begin()
    try:
        for number, piece in enumerate(pieces):
            response = reader.feed(piece)
            if response is not None:
                return (*described(response), reader.keep_alive, number)
        return (*described(reader.finish()), reader.keep_alive, "at the end")
    except (BadResponseError, GatewayConnectionError) as error:
        return (type(error), error.message)


def described(response: HTTPResponse) -> Outcome:
    assert isinstance(response, HTTPResponse)
    assert isinstance(response.body, bytes)
    assert len(response.body) <= LIMIT
    assert response.status_code >= 102
    return response.status_code, response.headers.raw, response.body


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


TOKEN = st.text("abcXYZ-09_", min_size=1, max_size=12).map(lambda t: b"X-" + t.encode())
VALUE = st.text(
    st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20
).map(lambda t: t.encode("latin-1"))
HEADERS = st.lists(st.tuples(TOKEN, VALUE), max_size=5)
BODY = st.binary(max_size=60)
INTERIM = st.sampled_from(
    [b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n"]
)


@st.composite
def responses(draw: st.DrawFn) -> tuple[bytes, Outcome]:
    """A valid response as bytes, and what is to come of it."""
    status = draw(st.sampled_from([200, 201, 204, 304, 404, 429, 503]))
    headers, body = draw(HEADERS), draw(BODY)
    framing = draw(st.sampled_from(["length", "chunked", "end"]))
    close = draw(st.booleans())
    if status in (204, 304):
        framing, body = "none", b""
    if framing == "length":
        headers.append((b"Content-Length", str(len(body)).encode()))
    elif framing == "chunked":
        headers.append((b"transfer-encoding", b"Chunked"))
    if close:
        headers.append((b"Connection", b"close"))
    head = b"HTTP/1.1 %d Some Reason\r\n" % status
    head += b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n"
    wire = draw(INTERIM) + head + (chunked(draw, body) if framing == "chunked" else body)
    keep_alive = framing != "end" and not close
    return wire, (status, headers, body, keep_alive)


def chunked(draw: st.DrawFn, body: bytes) -> bytes:
    pieces = cut(body, draw(st.lists(st.integers(0, 100), max_size=5)))
    extension, trailer = draw(st.sampled_from([(b"", b""), (b";a=b", b"X-Sum: 1\r\n")]))
    chunks = b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces)
    return chunks + b"0\r\n" + trailer + b"\r\n"


CUTS = st.lists(st.integers(0, 1000), max_size=20)


@given(responses(), CUTS)
def test_any_cutting_of_a_response_reads_the_same(
    response: tuple[bytes, Outcome], places: list[int]
) -> None:
    wire, expected = response
    assert read(cut(wire, places))[:-1] == expected
    assert read([bytes([byte]) for byte in wire])[:-1] == expected


@given(st.lists(st.tuples(responses(), CUTS), min_size=2, max_size=4))
def test_responses_of_one_connection_do_not_touch(
    several: list[tuple[tuple[bytes, Outcome], list[int]]],
) -> None:
    reader = ResponseReader("gateway:1", LIMIT)
    for (wire, expected), places in several:
        assert read(cut(wire, places), reader)[:-1] == expected
        if not expected[-1]:
            break


REST = st.one_of(
    st.binary(min_size=1, max_size=40),
    responses().map(lambda response: response[0]),
    st.just(b"HTTP/1.1 500 Unasked\r\nContent-Length: 3\r\n\r\nevil"),
)


@given(responses(), REST, CUTS)
def test_what_follows_a_response_changes_nothing_but_keep_alive(
    response: tuple[bytes, Outcome], rest: bytes, places: list[int]
) -> None:
    wire, (*expected, keep_alive) = response
    head = wire.lower()
    if not keep_alive and b"connection: close" not in head:
        return  # it ends with the connection: there is no "after"
    framed = b"content-length" in head or b"chunked" in head or b" 204 " in head or b" 304 " in head
    *pieces, last = cut(wire, places)
    outcome = read([*pieces, last + rest])
    if framed:
        assert list(outcome[:3]) == expected
        assert not outcome[3] or not rest.strip(b"\r\n")


@given(st.binary(max_size=300), CUTS)
@example(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", [])
@example(b"\r\n\r\n", [1, 2])
@example(b"ICE/1.0 200 OK\r\n\r\n", [])
def test_garbage_is_an_error_or_a_response_and_nothing_else(data: bytes, places: list[int]) -> None:
    read(cut(data, places))


@given(responses(), st.data(), CUTS)
def test_a_damaged_response_is_an_error_or_a_response_and_nothing_else(
    response: tuple[bytes, Outcome], data: st.DataObject, places: list[int]
) -> None:
    wire = bytearray(response[0])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(wire) - 1))
        match data.draw(st.sampled_from(["change", "drop", "insert"])):
            case "change":
                wire[place] = data.draw(st.integers(0, 255))
            case "drop":
                del wire[place : place + data.draw(st.integers(1, 9))]
                if not wire:
                    return
            case _:
                wire[place:place] = data.draw(st.binary(max_size=9))
    whole = read([bytes(wire)])
    pieces = read(cut(bytes(wire), places))
    # A cut may hide what followed a complete response, but never changes the verdict on it.
    assert whole[0] == pieces[0]


@given(responses(), CUTS)
def test_a_response_cut_off_is_never_taken_for_a_whole_one(
    response: tuple[bytes, Outcome], places: list[int]
) -> None:
    wire, _ = response
    if b"\r\nContent-Length: " not in wire and b"\r\ntransfer-encoding: " not in wire:
        return
    for end in range(len(wire) - 1):
        outcome = read(cut(wire[:end], places))
        assert outcome[0] in (BadResponseError, GatewayConnectionError), (end, outcome)


def test_a_body_in_many_tiny_pieces_takes_no_more_memory_than_its_size() -> None:
    reader = ResponseReader("gateway:1", 10_000_000)
    reader.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    tracemalloc.start()
    for _ in range(50):
        reader.feed(b"2\r\nab\r\n" * 1000)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 500_000
    response = reader.feed(b"0\r\n\r\n")
    assert response is not None
    assert response.body == b"ab" * 50_000


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early\r\n"])
def test_the_head_may_be_as_large_as_the_limit_and_no_larger(head: bytes) -> None:
    fits = head + b"X: " + b"a" * 65_400 + b"\r\n\r\n"
    outcome = read([fits, b"HTTP/1.1 200 OK\r\n\r\n" if b"103" in head else b""])
    assert outcome[0] == 200
    too_large = head + b"X: " + b"a" * 65_600 + b"\r\n\r\n"
    assert read([too_large])[0] is BadResponseError
    assert read([too_large[n : n + 9] for n in range(0, len(too_large), 9)])[0] is BadResponseError
