"""Arrays of numbers as bytes that mean the same on every machine: little-endian."""

from __future__ import annotations

import sys
from array import array

__all__ = ["pack", "unpack"]


def pack(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def unpack(typecode: str, data: bytes) -> array[int]:
    """Raises ValueError for bytes that are no whole number of such numbers."""
    numbers = array(typecode, data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
