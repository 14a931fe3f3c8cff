"""Undoing, piece by piece, a compression of a streamed body that was not asked for."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from batch_gateway.client.http.content_coding import UndecodableBodyError

__all__ = ["BodyDecoder"]

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = frozenset({"gzip", "x-gzip", "deflate"})
_PIECE = 64 * 1024


class BodyDecoder:
    """Decodes a body with the given Content-Encoding; the empty string passes it through.

    Raises UndecodableBodyError at construction for codings that are unknown or more than one.
    """

    def __init__(self, codings: str) -> None:
        names = [name.strip().lower() for name in codings.split(",")]
        names = [name for name in names if name not in ("", "identity")]
        unknown = [name for name in names if name not in _CODINGS]
        if unknown or len(names) > 1:
            shown = ", ".join(unknown or names)[:40]
            raise UndecodableBodyError(f"is compressed with {shown!r}, which nobody asked for")
        self._name = names[0] if names else ""
        self._inflater = zlib.decompressobj(_GZIP_OR_ZLIB) if names else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` unpacks to, in pieces of at most 64 KiB. Consume them all."""
        if self._inflater is None:
            yield data
            return
        while data and not self._inflater.eof:
            try:
                piece = self._inflater.decompress(data, _PIECE)
            except zlib.error as error:
                raise UndecodableBodyError(
                    f"says it is {self._name} but is not ({error})"
                ) from error
            data = self._inflater.unconsumed_tail
            if piece:
                yield piece

    def finish(self) -> None:
        """The body has ended. Raises UndecodableBodyError in the middle of compressed data."""
        if self._inflater is not None and not self._inflater.eof:
            raise UndecodableBodyError(f"ends in the middle of its {self._name} data")
