"""Responses that are framed irregularly and can mean but one thing, as old servers send them.

After each, the connection is closed: nothing that follows could be taken for the next answer.
"""

from __future__ import annotations

import pytest

from batch_gateway.errors import BadResponseError

from .conftest import Connect, Post
from .scripted_server import Peer, Script, serving

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"2\r\n{}\r\n0\r\n\r\n"
SMUGGLED = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"

USUAL = OK + b"Content-Length: 2\r\n\r\n{}"

ODD = {
    "a length before chunked": OK
    + b"Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n"
    + CHUNKS,
    "a length after chunked": OK
    + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
    + CHUNKS,
    "a length twice": OK + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "a length twice in a line": OK + b"Content-Length: 2, 2\r\n\r\n{}",
    "identity before a length": OK + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "identity after a length": OK + b"Content-Length: 2\r\nTransfer-Encoding: Identity\r\n\r\n{}",
    "lines that end in LF": b"HTTP/1.1 200 OK\nX-A: b\nContent-Length: 2\n\n{}",
    "one line that ends in LF": OK + b"X-A: b\nContent-Length: 2\r\n\r\n{}",
    "LF lines before chunks": b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n" + CHUNKS,
    "an interim answer in LF lines": b"HTTP/1.1 103 Hints\nLink: x\n\n"
    + OK
    + b"Content-Length: 2\r\n\r\n{}",
    "a chunk size that ends in LF": OK + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
    "a chunk size and data that end in LF": OK
    + b"Transfer-Encoding: chunked\r\n\r\n1\n{\n1\r\n}\n0\n\n",
    "a chunk size that ends in LF, and so the last": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\n{}\r\n0\nX-A: b\n\n",
    "a chunk size like all lines in LF": b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n"
    + b"2\n{}\n0\n\n",
}
REGULAR = {
    "blanks behind a chunk size": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2   \r\n{}\r\n0   \r\n\r\n",
    "blanks before an extension": OK
    + b"Transfer-Encoding: chunked\r\n\r\n2 ;a=b\r\n{}\r\n0\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "a tab behind a colon": OK + b"Content-Length:\t2\r\n\r\n{}",
}


def answers(reply: bytes, *, in_pieces: bool = False, smuggles: bool = False) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            for piece in [reply[n : n + 1] for n in range(len(reply))] if in_pieces else [reply]:
                peer.send(piece)
                await peer.drain()
            if smuggles:
                peer.send(SMUGGLED)
                await peer.drain()

    return script


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", [*ODD, *REGULAR])
async def test_an_answer_that_can_mean_but_one_thing_is_read(
    connect: Connect, post: Post, name: str, in_pieces: bool
) -> None:
    async with serving(answers((ODD | REGULAR)[name], in_pieces=in_pieces)) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            assert (await post(exchanger)).body == b"{}"


@pytest.mark.parametrize("name", ODD)
async def test_after_an_odd_answer_the_connection_is_not_used_again(
    connect: Connect, post: Post, name: str
) -> None:
    async with serving(answers(ODD[name], smuggles=True)) as server:
        exchanger = connect(server.base_url)
        for number in range(1, 4):
            assert (await post(exchanger)).body == b"{}"
            assert server.accepted == number


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_behind_usual_ones_is_still_odd(
    connect: Connect, post: Post, name: str
) -> None:
    async def script(peer: Peer) -> None:
        for reply in (USUAL, USUAL, ODD[name] + SMUGGLED):
            await peer.request()
            peer.send(reply)
            await peer.drain()

    async with serving(script) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            assert (await post(exchanger)).body == b"{}"
        assert server.accepted == 1
        await post(exchanger)
        assert server.accepted == 2


async def test_bytes_behind_a_usual_answer_are_not_taken_for_the_next(
    connect: Connect, post: Post
) -> None:
    async with serving(answers(USUAL, smuggles=True)) as server:
        exchanger = connect(server.base_url)
        for number in range(1, 4):
            assert (await post(exchanger)).body == b"{}"
            assert server.accepted == number


@pytest.mark.parametrize("name", REGULAR)
async def test_after_one_that_is_merely_ugly_it_is(connect: Connect, post: Post, name: str) -> None:
    async with serving(answers(REGULAR[name])) as server:
        exchanger = connect(server.base_url)
        for _ in range(3):
            await post(exchanger)
        assert server.accepted == 1


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"Content-Length: 2\r\nContent-Length: 3", id="different lengths"),
        pytest.param(b"Content-Length: 2, 3", id="different lengths in a line"),
        pytest.param(b"Content-Length: 2\r\nContent-Length: 02", id="equal but for a zero"),
        pytest.param(b"Content-Length: two", id="no number"),
        pytest.param(b"X-A: b\r\r\nContent-Length: 2", id="a stray CR"),
    ],
)
async def test_what_can_mean_two_things_is_refused(
    connect: Connect, post: Post, head: bytes
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.send(OK, head, b"\r\n\r\n{}")
        await peer.drain()

    async with serving(script) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url))


@pytest.mark.parametrize(
    ("first", "endless"),
    [
        pytest.param(b"0\r\nX-Sum: ", b"a" * 8192, id="a trailer's value"),
        pytest.param(b"0\r\n", b"a" * 8192, id="a trailer's name"),
        pytest.param(b"0\r\n", b"X-Sum: a\r\n" * 800, id="trailers"),
        pytest.param(b"2;", b"a" * 8192, id="a chunk extension"),
        pytest.param(b"2", b" " * 8192, id="blanks behind a chunk size"),
    ],
)
async def test_what_is_neither_head_nor_body_is_bounded_like_the_head(
    connect: Connect, post: Post, first: bytes, endless: bytes
) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.send(OK, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", first)
        while sent < 100_000_000:
            peer.send(endless)
            await peer.drain()
            sent += len(endless)

    async with serving(script) as server:
        with pytest.raises(BadResponseError):
            await post(connect(server.base_url))
    # What the kernel buffers on both sides comes on top.
    assert sent < 16_000_000
