"""A batch cut into shards: byte ranges of whole lines, each of which can be run by itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import msgspec

from batch_gateway.engine.line_index import LineIndex

__all__ = ["SHARD_BYTES", "SHARD_LINES", "Shard", "split"]

SHARD_BYTES = 64 * 1024 * 1024
SHARD_LINES = 50_000


class Shard(msgspec.Struct, frozen=True):
    """A part of a batch.

    Attributes:
        batch: which batch.
        number: which of its shards, from 0.
        start, end: its bytes; the shards of a batch together are all of its bytes.
        first_index: the number of its first request in the batch, from 0.
        first_line: the number of the line that begins at `start`, from 1, blank lines counted.
        requests: how many it has.
    """

    batch: str
    number: int
    start: int
    end: int
    first_index: int
    first_line: int
    requests: int


def split(lines: LineIndex, batch: str, max_bytes: int, max_lines: int) -> Iterator[Shard]:
    """Shards of at most so many requests and bytes; a longer line is a shard of its own."""
    first, last = lines.first, lines.first + len(lines)
    number = 0
    while first < last:
        start = lines.boundary(first)
        ends = range(first + 1, min(first + max_lines, last) + 1)
        fitting = bisect_right(ends, start + max_bytes, key=lines.boundary)
        end = first + max(1, fitting)
        line = lines.first_line if first == lines.first else lines.line_number(first)
        yield Shard(batch, number, start, lines.boundary(end), first, line, end - first)
        first, number = end, number + 1
