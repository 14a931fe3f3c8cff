"""Where each request stands in its file: four bytes a line."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

__all__ = ["LineIndex"]

_LOW = 0xFFFF_FFFF


class LineIndex:
    """Offsets and line numbers of the requests of one file, blank lines left out.

    Only the low half of each offset is kept; where the high half grows by one is a short list.
    """

    def __init__(self) -> None:
        self._low = array("I")
        self._carries = array("Q")
        self._blank_before = array("Q")
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

    def add_blank(self, index: int) -> None:
        """A blank line stands before request `index`."""
        self._blank_before.append(index)

    def finish(self, end: int) -> None:
        """The file ends at byte `end`."""
        self._end = end

    def span(self, index: int) -> tuple[int, int]:
        """First byte, and the byte after the last: of the next request, or of the file's end."""
        after = index + 1
        if self._carries:
            end = self._offset(after) if after < len(self._low) else self._end
            return self._offset(index), end
        # Nearly all files, and this runs once a request.
        low = self._low
        return low[index], low[after] if after < len(low) else self._end

    def size(self, index: int) -> int:
        """Bytes from the beginning of a request to that of the next, or to the end of the file."""
        after = index + 1
        if after == len(self._low):
            return self._end - self._offset(index)
        # A line is shorter than what the low halves can tell apart.
        return (self._low[after] - self._low[index]) & _LOW

    def _offset(self, index: int) -> int:
        return self._low[index] + (bisect_right(self._carries, index) << 32)

    def line_number(self, index: int) -> int:
        """The number of its line in the file, from 1."""
        return index + 1 + bisect_right(self._blank_before, index)
