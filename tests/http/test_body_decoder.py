"""The decoder itself: how bytes are cut never matters, and its work is bounded by what it reads."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.http.body_decoder import BodyDecoder, UndecodableBodyError


def decoded(coding: str, pieces: Iterable[bytes]) -> bytes | str:
    decoder = BodyDecoder(coding)
    body = bytearray()
    try:
        for piece in pieces:
            for part in decoder.feed(piece):
                assert len(part) <= 64 * 1024
                body += part
        for part in decoder.finish():
            body += part
    except UndecodableBodyError as error:
        return str(error)
    return bytes(body)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


def packed(coding: str, members: list[bytes]) -> bytes:
    def one(data: bytes) -> bytes:
        packer = zlib.compressobj(wbits={"gzip": 31, "zlib": 15, "raw": -15}[coding])
        return packer.compress(data) + packer.flush()

    return b"".join(map(one, members))


CUTS = st.lists(st.integers(0, 10_000), max_size=20)
FORMS = st.sampled_from(["gzip", "zlib", "raw"])


@given(FORMS, st.lists(st.binary(max_size=300), min_size=1, max_size=4), CUTS)
def test_any_cutting_of_any_members_unpacks_to_the_same(
    form: str, members: list[bytes], places: list[int]
) -> None:
    body = packed(form, members)
    name = "gzip" if form == "gzip" else "deflate"
    assert decoded(name, cut(body, places)) == b"".join(members)
    assert decoded(name, [bytes([byte]) for byte in body]) == b"".join(members)


@given(st.sampled_from(["gzip", "deflate", "gzip, deflate", "br", "utf-8"]), st.binary(), CUTS)
def test_whatever_comes_is_unpacked_or_told_in_a_phrase(
    coding: str, body: bytes, places: list[int]
) -> None:
    whole = decoded(coding, [body])
    pieces = decoded(coding, cut(body, places))
    assert type(whole) is type(pieces)
    if isinstance(whole, bytes):
        assert whole == pieces


@given(FORMS, st.binary(min_size=1, max_size=3000), st.integers(1, 40))
def test_a_body_that_was_cut_off_is_never_taken_for_a_whole_one(
    form: str, data: bytes, missing: int
) -> None:
    body = packed(form, [data])
    name = "gzip" if form == "gzip" else "deflate"
    kept = body[: max(1, len(body) - missing)]
    assert decoded(name, [kept]) != data or kept == data


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 100, 3 * 64 * 1024, 200_001])
@pytest.mark.parametrize("form", ["gzip", "zlib", "raw"])
def test_output_that_just_fills_a_piece_is_not_left_behind(form: str, size: int) -> None:
    """zlib may have taken in everything and still hold back part of a long repetition."""
    body = packed(form, [b"a" * size])
    assert decoded("gzip" if form == "gzip" else "deflate", [body]) == b"a" * size


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_each_piece_of_a_flushed_stream_comes_out_as_it_goes_in(coding: str) -> None:
    packer = zlib.compressobj(wbits=31 if coding == "gzip" else -15)
    decoder = BodyDecoder(coding)
    for number in range(5):
        event = b'data: {"choices": [{"delta": {"content": "%d"}}]}\n\n' % number
        piece = packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(decoder.feed(piece)) == event


def test_empty_members_give_the_reader_a_chance_between_them() -> None:
    members = gzip.compress(b"") * 1000
    assert len(list(BodyDecoder("gzip").feed(members))) >= 1000
