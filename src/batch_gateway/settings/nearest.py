"""Which known names somebody may have meant by one that is not known. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["near_names", "nearest"]

_MOST = 3
_LETTERS = re.compile(r"[^\W_]+")


def nearest(name: str, known: Iterable[str]) -> str:
    """The one that is nearest; empty where none is near."""
    return next(iter(near_names(name, known)), "")


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names that are equally near and nearest, at most three; none where it is a guess.

    Near is a name with a typing error, one in four letters at most; else one that has all words of
    the other, and some more.
    """
    found: dict[tuple[int, int], list[str]] = {}
    for candidate in known:
        rank = _rank(_words(name), _words(candidate))
        if rank is not None:
            found.setdefault(rank, []).append(candidate)
    best = found[min(found)] if found else []
    return best if len(best) <= _MOST else []


def _words(name: str) -> list[str]:
    return _LETTERS.findall(name.casefold())


def _rank(one: list[str], other: list[str]) -> tuple[int, int] | None:
    """Less is nearer; None is not near at all."""
    letters, others = "".join(one), "".join(other)
    edits = _edits(letters, others)
    if edits <= (max(len(letters), len(others)) + 1) // 4:
        return 0, edits
    some, all_of = sorted((set(one), set(other)), key=len)
    return (1, len(all_of - some)) if some and some < all_of else None


def _edits(one: str, other: str) -> int:
    """Letters left out, added, changed and swapped with the next: optimal string alignment."""
    before, row = list[int](), list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, another in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != another))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == another:
                best = min(best, earlier[j - 2] + 1)
            row.append(best)
    return row[-1]
