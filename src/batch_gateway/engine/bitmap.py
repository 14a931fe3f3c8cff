"""One bit for each request of a batch, or of a part of one."""

from __future__ import annotations

__all__ = ["Bitmap"]


class Bitmap:
    """A set of numbers within `range`, an eighth of a byte for each; `len()` counts them."""

    __slots__ = ("_bits", "_count", "_first", "range")

    def __init__(self, numbers: range) -> None:
        self.range = numbers
        self._first = numbers.start
        self._bits = bytearray((len(numbers) + 7) // 8)
        self._count = 0

    def __contains__(self, number: int) -> bool:
        place = number - self._first
        return bool(self._bits[place >> 3] & (1 << (place & 7)))

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> bool:
        """True when it was not there before."""
        place = number - self._first
        bits, byte, bit = self._bits, place >> 3, 1 << (place & 7)
        known = bits[byte]
        if known & bit:
            return False
        bits[byte] = known | bit
        self._count += 1
        return True

    def discard(self, number: int) -> bool:
        """True when it was there."""
        if not self._count or number not in self:
            return False
        place = number - self._first
        self._bits[place >> 3] &= ~(1 << (place & 7))
        self._count -= 1
        return True

    def subtract(self, other: Bitmap) -> int:
        """Take out every number of `other` (of the same range); how many that were."""
        mine = int.from_bytes(self._bits, "little")
        left = mine & ~int.from_bytes(other._bits, "little")
        before = self._count
        self._bits[:] = left.to_bytes(len(self._bits), "little")
        self._count = left.bit_count()
        return before - self._count

    def copy(self) -> Bitmap:
        """Another one with the same members, which changes by itself."""
        twin = Bitmap(self.range[:0])
        twin.range = self.range
        twin._bits = self._bits.copy()
        twin._count = self._count
        return twin
