"""Where each request stands in its source: four bytes a line."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import repeat

import msgspec

from batch_gateway.engine.packed_arrays import pack, unpack

__all__ = ["LineIndex", "PackedLines"]

_LOW = 0xFFFF_FFFF


class PackedLines(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A line index to be stored."""

    first: int
    first_line: int
    end: int
    low: bytes
    carries: bytes
    blank_before: bytes


class LineIndex:
    """Offsets and line numbers of the requests of one source, blank lines left out.

    Only the low half of each offset is kept; where the high half grows by one is a short list, and
    so are the requests with blank lines before them.

    Attributes:
        first: the number of the first request; not 0 where the source is a part of another.
        first_line: the number of the line with which the source begins.
    """

    def __init__(self, first: int = 0, first_line: int = 1) -> None:
        self.first = first
        self.first_line = first_line
        self._low = array("I")
        # All by place, which is the number of a request less that of the first.
        self._carries = array("Q")
        self._blank_places = array("Q")
        # So many blank lines stand up to and before the request at each of these places.
        self._blanks = array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._low)

    def extend(self, offsets: Sequence[int]) -> None:
        """The next requests begin at these bytes, in order."""
        if not offsets or offsets[-1] <= _LOW:
            self._low.extend(offsets)
            return
        for offset in offsets:
            while offset >> 32 > len(self._carries):
                self._carries.append(len(self._low))
            self._low.append(offset & _LOW)

    def add_blank(self, place: int) -> None:
        """A blank line stands before the request at this place, counted from 0."""
        before = self._blanks[-1] if self._blanks else 0
        if self._blank_places and self._blank_places[-1] == place:
            self._blanks[-1] = before + 1
        else:
            self._blank_places.append(place)
            self._blanks.append(before + 1)

    def _blanks_to(self, place: int) -> int:
        """How many blank lines stand before the request at this place."""
        known = bisect_right(self._blank_places, place)
        return self._blanks[known - 1] if known else 0

    def _blank_before(self) -> Iterator[int]:
        """The place for each blank line, in order."""
        earlier = 0
        for place, total in zip(self._blank_places, self._blanks, strict=True):
            yield from repeat(place, total - earlier)
            earlier = total

    def finish(self, end: int) -> None:
        """The source ends at byte `end`."""
        self._end = end

    def span(self, index: int) -> tuple[int, int]:
        """First byte, and the byte after the last: of the next request, or of the source's end."""
        place = index - self.first
        after = place + 1
        if self._carries:
            return self._offset(place), self._offset(after)
        # Nearly all sources, and this runs once a request.
        low = self._low
        return low[place], low[after] if after < len(low) else self._end

    def size(self, index: int) -> int:
        """Bytes from the beginning of a request to that of the next, or to the source's end."""
        place = index - self.first
        after = place + 1
        if after == len(self._low):
            return self._end - self._offset(place)
        # A line is shorter than what the low halves can tell apart.
        return (self._low[after] - self._low[place]) & _LOW

    def _offset(self, place: int) -> int:
        if place == len(self._low):
            return self._end
        return self._low[place] + (bisect_right(self._carries, place) << 32)

    def line_number(self, index: int) -> int:
        """The number of its line in the whole file, from 1."""
        place = index - self.first
        return place + self.first_line + self._blanks_to(place)

    def index_of(self, line_number: int) -> int:
        """The request that stands on this line, or else the next one."""
        requests = range(self.first, self.first + len(self))
        return self.first + bisect_left(requests, line_number, key=self.line_number)

    def boundary(self, index: int) -> int:
        """Where a part that begins with this request begins: all bytes before are of earlier ones.

        The source begins with the first request, whatever stands before it, and the request after
        the last begins with the source's end.
        """
        return 0 if index == self.first else self._offset(index - self.first)

    def part(self, first: int, end: int) -> LineIndex:
        """That of the bytes from the boundary of request `first` to the one of request `end`."""
        begin, low, high = self.boundary(first), first - self.first, end - self.first
        at_start = first == self.first
        part = LineIndex(first, self.first_line if at_start else self.line_number(first))
        part.extend([self._offset(place) - begin for place in range(low, high)])
        for place in self._blank_before():
            # Blank lines before its first request are of the part before it, where there is one.
            if (low < place or at_start) and place <= high:
                part.add_blank(place - low)
        part.finish(self.boundary(end) - begin)
        return part

    def packed(self) -> PackedLines:
        blank_before = array("Q", self._blank_before())
        arrays = (pack(each) for each in (self._low, self._carries, blank_before))
        return PackedLines(self.first, self.first_line, self._end, *arrays)

    @classmethod
    def unpacked(cls, packed: PackedLines) -> LineIndex:
        lines = cls(packed.first, packed.first_line)
        lines._low = unpack("I", packed.low)
        lines._carries = unpack("Q", packed.carries)
        for place in unpack("Q", packed.blank_before):
            lines.add_blank(place)
        lines.finish(packed.end)
        return lines
