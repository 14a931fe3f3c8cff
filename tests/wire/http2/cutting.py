"""Bytes in pieces, as a network hands them over."""

from __future__ import annotations

__all__ = ["cut"]


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """`content` in pieces of those sizes, again and again."""
    pieces: list[bytes] = []
    turn = 0
    while content:
        size = sizes[turn % len(sizes)]
        pieces.append(content[:size])
        content = content[size:]
        turn += 1
    return pieces
