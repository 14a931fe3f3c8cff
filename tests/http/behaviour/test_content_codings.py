"""Compressions that were not asked for: a body is taken for what it looks like."""

from __future__ import annotations

import gzip
import zlib

import pytest

from batch_gateway.errors import BadResponseError

from .conftest import Connect, Post
from .scripted_server import Peer, Script, answer, serving

pytestmark = pytest.mark.anyio

JSON = b'{"choices": [{"message": {"content": "Gr\xc3\xbc\xc3\x9fe"}}]}'
BROTLI = b"\x8b\x1f\x80" + JSON + b"\x03"  # what `brotli -q 0` makes of so short a text


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def always(reply: bytes) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.send(reply)
            await peer.drain()

    return script


HALVES = (JSON[:20], JSON[20:])


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(b"gzip", gzip.compress(JSON), id="gzip"),
        pytest.param(b"x-gzip", gzip.compress(JSON), id="its old name"),
        pytest.param(b"GZIP", gzip.compress(JSON), id="in capitals"),
        pytest.param(b"deflate", zlib.compress(JSON), id="deflate with its zlib header"),
        pytest.param(b"deflate", raw_deflate(JSON), id="deflate without"),
        pytest.param(b"deflate", gzip.compress(JSON), id="gzip that is called deflate"),
        pytest.param(b"gzip", zlib.compress(JSON), id="deflate that is called gzip"),
        pytest.param(b"gzip", b"".join(map(gzip.compress, HALVES)), id="two members of gzip"),
        pytest.param(b"gzip", gzip.compress(b"") * 3 + gzip.compress(JSON), id="empty members"),
        pytest.param(b"deflate", b"".join(map(zlib.compress, HALVES)), id="two of zlib"),
        pytest.param(b"deflate", b"".join(map(raw_deflate, HALVES)), id="two of raw deflate"),
        pytest.param(b"gzip", gzip.compress(JSON) + bytes(512), id="padded with zeros"),
        pytest.param(b"gzip, gzip", gzip.compress(gzip.compress(JSON)), id="twice"),
        pytest.param(b"deflate, gzip", gzip.compress(zlib.compress(JSON)), id="one in another"),
        pytest.param(b"gzip, gzip", gzip.compress(JSON), id="once, though it says twice"),
        pytest.param(b"identity, gzip", gzip.compress(JSON), id="identity beside it"),
        pytest.param(b"gzip", JSON, id="gzip that is plain"),
        pytest.param(b"deflate", JSON, id="deflate that is plain"),
        pytest.param(b"br", JSON, id="brotli that is plain"),
        pytest.param(b"br, gzip", gzip.compress(JSON), id="brotli within gzip that is plain"),
        pytest.param(b"gzip", b"\xef\xbb\xbf" + JSON, id="plain, with a byte-order mark"),
        pytest.param(b"deflate", b"[]", id="plain and short"),
        pytest.param(b"UTF-8", JSON, id="a character set"),
        pytest.param(b"none", JSON, id="none"),
        pytest.param(b"identity", JSON, id="identity"),
        pytest.param(b"", JSON, id="empty"),
        pytest.param(b"8bit", JSON, id="an encoding of mail"),
        pytest.param(b"gzip", b"", id="no body at all"),
    ],
)
async def test_a_body_is_read_whatever_its_coding_is_called(
    connect: Connect, post: Post, coding: bytes, body: bytes
) -> None:
    async with serving(always(answer(body, b"Content-Encoding: " + coding))) as server:
        exchanger = connect(server.base_url)
        for _ in range(2):
            read = (await post(exchanger)).body
            assert read.removeprefix(b"\xef\xbb\xbf") == (JSON if len(body) > 2 else body)
        assert server.accepted == 1


CANNOT_BE_READ = [
    pytest.param(b"br", BROTLI, "is compressed with 'br', which nobody asked for", id="brotli"),
    pytest.param(b"zstd", b"(\xb5/\xfd \x11" * 9, "is compressed with 'zstd'", id="zstd"),
    pytest.param(b"gzip", gzip.compress(JSON)[:-9], "ends in the middle of its gzip", id="cut"),
    pytest.param(b"gzip", gzip.compress(JSON)[:4], "ends in the middle", id="cut in its header"),
    pytest.param(b"deflate", raw_deflate(JSON)[:-2], "ends in the middle", id="cut raw deflate"),
    pytest.param(
        b"gzip",
        gzip.compress(JSON) + gzip.compress(JSON)[:-9],
        "ends in the middle",
        id="cut in its second member",
    ),
    pytest.param(b"gzip", bytes(range(256)), "says it is gzip but is not", id="neither"),
    pytest.param(b"gzip", gzip.compress(JSON)[:-8] + b"damaged!", "is not", id="a wrong sum"),
    pytest.param(b",".join([b"gzip"] * 9), JSON, "compressed 9 times over", id="nine times"),
]


@pytest.mark.parametrize(("coding", "body", "why"), CANNOT_BE_READ)
async def test_a_success_that_cannot_be_unpacked_is_a_bad_response(
    connect: Connect, post: Post, coding: bytes, body: bytes, why: str
) -> None:
    async with serving(always(answer(body, b"Content-Encoding: " + coding))) as server:
        with pytest.raises(BadResponseError, match=why) as caught:
            await post(connect(server.base_url))
    assert caught.value.status_code == 200


@pytest.mark.parametrize(("coding", "body", "why"), CANNOT_BE_READ)
async def test_a_refusal_that_cannot_be_unpacked_keeps_its_status(
    connect: Connect, post: Post, coding: bytes, body: bytes, why: str
) -> None:
    reply = answer(body, b"Content-Encoding: " + coding, status=b"401 Unauthorized")
    async with serving(always(reply)) as server:
        response = await post(connect(server.base_url))
    assert response.status_code == 401
    assert response.body == body
    assert why in response.undecodable


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"x" * 100_001, id="as it came"),
        pytest.param(gzip.compress(b"x" * 10_000_000), id="unpacked"),
    ],
)
async def test_a_refusal_with_a_body_over_the_limit_keeps_its_status(
    connect: Connect, post: Post, body: bytes
) -> None:
    reply = answer(body, b"Content-Encoding: gzip", status=b"400 No")
    async with serving(always(reply)) as server:
        response = await post(connect(server.base_url, max_response_bytes=100_000))
        assert response.status_code == 400
        assert len(response.body) <= 100_000
        assert "max_response_bytes (100000 bytes)" in response.undecodable


@pytest.mark.parametrize("level", [1, 9])
async def test_a_bomb_is_given_up_at_the_limit(connect: Connect, post: Post, level: int) -> None:
    """A gigabyte in a megabyte, and a kilobyte that unpacks to that megabyte."""
    megabyte = zlib.compress(bytes(1 << 30 if level == 1 else 1 << 20), level)
    body = megabyte if level == 1 else zlib.compress(gzip.compress(bytes(1 << 26)))
    coding = b"deflate" if level == 1 else b"gzip, deflate"
    async with serving(always(answer(body, b"Content-Encoding: " + coding))) as server:
        with pytest.raises(BadResponseError, match="max_response_bytes") as caught:
            await post(connect(server.base_url, max_response_bytes=1_000_000))
    assert not caught.value.is_retryable
