"""A few numbers from all over a long sequence of unknown length."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["spread_of"]


def spread_of(numbers: Iterable[int], most: int) -> list[int]:
    """At most `most` of them, and at least half as many where there are, at even distances.

    Memory is flat: whenever there are too many, every other one goes and the distance doubles.
    """
    kept: list[int] = []
    distance = 1
    for place, number in enumerate(numbers):
        if place % distance:
            continue
        if len(kept) == most:
            kept = kept[::2]
            distance *= 2
            if place % distance:
                continue
        kept.append(number)
    return kept
