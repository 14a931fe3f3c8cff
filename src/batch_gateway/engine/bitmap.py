"""One bit for each line of a batch."""

from __future__ import annotations

__all__ = ["Bitmap"]


class Bitmap:
    """A set of numbers below `size`, in an eighth of a byte each; `len()` counts them."""

    __slots__ = ("_bits", "_count", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._bits = bytearray((size + 7) // 8)
        self._count = 0

    def __contains__(self, number: int) -> bool:
        return bool(self._bits[number >> 3] & (1 << (number & 7)))

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> bool:
        """True when it was not there before."""
        place, bit = number >> 3, 1 << (number & 7)
        if self._bits[place] & bit:
            return False
        self._bits[place] |= bit
        self._count += 1
        return True

    def discard(self, number: int) -> bool:
        """True when it was there."""
        if number not in self:
            return False
        self._bits[number >> 3] &= ~(1 << (number & 7))
        self._count -= 1
        return True

    def subtract(self, other: Bitmap) -> int:
        """Take out every number of `other` (of the same size); how many that were."""
        mine = int.from_bytes(self._bits, "little")
        left = mine & ~int.from_bytes(other._bits, "little")
        before = self._count
        self._bits[:] = left.to_bytes(len(self._bits), "little")
        self._count = left.bit_count()
        return before - self._count

    def copy(self) -> Bitmap:
        twin = Bitmap(0)
        twin.size = self.size
        twin._bits = self._bits.copy()
        twin._count = self._count
        return twin
