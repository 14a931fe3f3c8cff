"""The few header blocks that a gRPC server sends.

Literals without indexing (RFC 7541 §6.2.2), so that there is no table to keep in step. Source: gRPC
over HTTP/2 (PROTOCOL-HTTP2.md).
"""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["response_headers", "trailers"]


def _text(text: bytes) -> bytes:
    # A 7-bit prefix integer, not Huffman coded.
    length = len(text)
    if length < 127:
        return bytes((length,)) + text
    head = bytearray((127,))
    length -= 127
    while length >= 128:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + text


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + _text(name) + _text(value)


# Entry 8 of the static table is `:status: 200`.
_HEADERS = b"\x88" + _literal(b"content-type", b"application/grpc")
_OK = _literal(b"grpc-status", b"0")


def response_headers() -> bytes:
    """The block that goes before the first message."""
    return _HEADERS


def trailers(status: int, message: str, *, alone: bool) -> bytes:
    """The block that ends a call; `alone` when nothing went before it."""
    start = _HEADERS if alone else b""
    if status == 0:
        return start + _OK
    text = quote(message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~").encode()
    return start + _literal(b"grpc-status", str(status).encode()) + _literal(b"grpc-message", text)
