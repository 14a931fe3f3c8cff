"""Response heads that llhttp refuses but that can mean only one thing, put as RFC 9112 has them."""

from __future__ import annotations

import re

__all__ = ["is_head", "mended"]

_END = re.compile(rb"\r?\n\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d\b")
_LENGTH, _CODING = b"content-length", b"transfer-encoding"


def is_head(start: bytes) -> bool:
    """Whether it begins as a response does, rather than as another protocol."""
    return start.startswith(b"HTTP/1.")


def mended(received: bytes) -> tuple[bytes, bytes] | None:
    """A regular head, interim ones before it included, and what follows; None until it is whole.

    - Lines may end in a bare LF (RFC 9112 §2.2).
    - Equal lengths are one (RFC 9110 §8.6). Different ones are left for the parser to refuse.
    - `chunked` overrides a length (RFC 9112 §6.3), and `identity`, which that RFC no longer
      knows, says nothing.
    """
    heads: list[bytes] = []
    start = 0
    while True:
        end = _END.search(received, start)
        if end is None:
            return None
        lines = re.split(rb"\r?\n", received[start : end.start()])
        heads.append(b"\r\n".join([lines[0], *_framed(lines[1:]), b"", b""]))
        start = end.end()
        if not _INTERIM.match(lines[0]):
            return b"".join(heads), received[start:]


def _framed(lines: list[bytes]) -> list[bytes]:
    lengths, codings = _listed(lines, _LENGTH), _listed(lines, _CODING)
    codings = [coding for coding in codings if coding.lower() != b"identity"]
    others = [line for line in lines if _name(line) not in (_LENGTH, _CODING)]
    if codings:
        others.append(b"Transfer-Encoding: " + b", ".join(codings))
        if codings[-1].lower() == b"chunked":
            return others
    distinct = sorted(set(lengths))
    return others + [b"Content-Length: " + length for length in distinct]


def _listed(lines: list[bytes], wanted: bytes) -> list[bytes]:
    """The values of a header in all its lines, each of which may be a list."""
    found = (line.partition(b":")[2].split(b",") for line in lines if _name(line) == wanted)
    return [value.strip(b" \t") for values in found for value in values]


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0].lower()
