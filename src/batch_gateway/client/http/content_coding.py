"""Undoes a compression that was not asked for but that some gateways apply all the same."""

from __future__ import annotations

import zlib

__all__ = ["UndecodableBodyError", "decode_body"]

# 32 tells zlib to recognise both the gzip and the zlib header ("deflate" on the wire).
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class UndecodableBodyError(Exception):
    """Says in one phrase why a body could not be decoded."""


def decode_body(body: bytes, codings: str, limit: int) -> bytes:
    """`body` without its content `codings` (a Content-Encoding value), at most `limit` bytes.

    Raises UndecodableBodyError for unknown codings, corrupt or truncated data, and past the limit.
    """
    names = [name.strip().lower() for name in codings.split(",")]
    for name in reversed(names):
        if name in ("", "identity"):
            continue
        if name not in _CODINGS:
            raise UndecodableBodyError(f"is compressed with {name[:20]!r}, which nobody asked for")
        body = _inflate(body, name, limit)
    return body


def _inflate(body: bytes, name: str, limit: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        decoded = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise UndecodableBodyError(f"says it is {name} but is not ({error})") from error
    if len(decoded) > limit:
        raise UndecodableBodyError(f"unpacks to more than max_response_bytes ({limit} bytes)")
    if not inflater.eof:
        raise UndecodableBodyError(f"ends in the middle of its {name} data")
    return decoded
