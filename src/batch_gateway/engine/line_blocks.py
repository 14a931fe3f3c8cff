"""Reading lines in blocks of whole lines, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["MAX_LINE_BYTES", "LineTooLongError", "is_utf8", "iter_blocks"]

MAX_LINE_BYTES = 256 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024


class LineTooLongError(Exception):
    """A line is longer than `MAX_LINE_BYTES`; `offset` is where it begins."""

    def __init__(self, offset: int) -> None:
        super().__init__(offset)
        self.offset = offset


def iter_blocks(
    read: Callable[[int, int], bytes], start: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Pairs (offset, block) that together are all bytes from `start` to `end`.

    `read(length, offset)` gives that many bytes, or fewer, and none at the end. Every block holds
    whole lines and ends with a newline, except that the last one ends where the bytes do. Raises
    LineTooLongError, and whatever `read` raises.
    """
    position = start
    begin = start
    pending: list[bytes] = []
    while chunk := read(_wanted(position, end), position):
        position += len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            pending.append(chunk)
            if position - begin > MAX_LINE_BYTES:
                raise LineTooLongError(begin)
            continue
        block = b"".join((*pending, chunk[:cut]))
        pending = [chunk[cut:]] if cut < len(chunk) else []
        yield begin, block
        begin += len(block)
    if pending:
        yield begin, b"".join(pending)


def _wanted(position: int, end: int | None) -> int:
    return _BLOCK_BYTES if end is None else max(0, min(_BLOCK_BYTES, end - position))


def is_utf8(data: bytes) -> bool:
    """Whether all of `data` is UTF-8, which JSON decoders do not ask of strings they skip."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
