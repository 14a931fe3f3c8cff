"""Chunked bodies whose lines may end in a bare LF, put as RFC 9112 has them."""

from __future__ import annotations

import re

__all__ = ["RegularChunks"]

_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?")
# Makes the parser refuse what is no chunk, in its own words.
_NO_CHUNK = b"?\r\n"


class RegularChunks:
    """Takes in the bytes of one body and gives back the same chunks in regular form.

    Trailers are left out. A line that does not end is held without a limit of its own: whoever
    feeds this bounds what comes without a body.
    """

    __slots__ = ("_is_over", "_left", "_line", "_wants_end")

    def __init__(self) -> None:
        self._line = b""
        # Bytes of the chunk that are still to come.
        self._left = 0
        self._wants_end = False
        self._is_over = False

    def feed(self, data: bytes) -> bytes:
        """What `data` completes; nothing more once the last chunk has come."""
        data = self._line + data
        made: list[bytes] = []
        start = 0
        while start < len(data):
            if self._left:
                piece = data[start : start + self._left]
                made.append(piece)
                self._left -= len(piece)
                start += len(piece)
                continue
            end = data.find(b"\n", start)
            if end < 0:
                break
            made.append(self._take(data[start:end].removesuffix(b"\r")))
            start = end + 1
        self._line = data[start:]
        return b"".join(made)

    def _take(self, line: bytes) -> bytes:
        if self._is_over:
            return b"" if line else b"\r\n"
        if self._wants_end:
            self._wants_end = False
            return _NO_CHUNK if line else b"\r\n"
        size = _SIZE.fullmatch(line)
        if size is None:
            return _NO_CHUNK
        self._left = int(size.group(1), 16)
        self._is_over = not self._left
        self._wants_end = not self._is_over
        return size.group(1) + b"\r\n"
