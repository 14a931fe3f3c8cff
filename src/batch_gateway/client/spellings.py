"""Finds a text in another one in whichever way it is spelt there: as it is, or escaped.

What a gateway quotes may have gone through JSON, HTML or a URL, or through several of them one
after the other. So each layer of escapes is undone in turn, with the places noted where it was,
and what is found then is told by its place in what arrived.
"""

from __future__ import annotations

import html
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

__all__ = ["CUT", "readings", "spelt_spans"]

Span = tuple[int, int]
Search = Callable[[str], Iterator[Span]]

CUT = "…"
"""What `short_text` ends with where it has cut."""

# JSON within JSON has two layers of backslashes, and it doubles from there.
_MOST_LAYERS = 10
# In all layers, some tenths of a second. Nobody needs what comes after so many in an error.
_MOST_ESCAPES = 400_000

_BACKSLASHES = r"|\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"'/\\bfnrt]))"
_OTHERS = r"|%([0-9a-fA-F]{2})|(&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});?)"
# Half an escape, at a cut; it stands for nothing.
_HALF = r"(?:\\{1,8}(?:[ux][0-9a-fA-F]{0,3})?|&#?[0-9A-Za-z]{0,9}|%[0-9a-fA-F]?)(?=…)"
_ESCAPE = re.compile(_HALF + _BACKSLASHES + _OTHERS)
# A secret that looks like an escape itself is found where only JSON has touched it.
_JSON_ESCAPE = re.compile(_HALF + _BACKSLASHES + "|()()(?!)")


class _Layer:
    """Text with one layer of escapes undone, and where each part of it was before."""

    def __init__(self, text: str, escape: re.Pattern[str], most: int) -> None:
        parts: list[str] = []
        self._places, self._origins = array("q"), array("q")
        at = place = 0
        self.end = len(text)
        for number, found in enumerate(escape.finditer(text)):
            if number == most:
                self.end = found.start()
                break
            start = found.start()
            sign = _meaning(found)
            parts += (text[at:start], sign)
            place += start - at
            self._note(place, start)
            at, place = found.end(), place + len(sign)
            self._note(place, at)
        self.text = "".join((*parts, text[at : self.end]))

    def _note(self, place: int, origin: int) -> None:
        self._places.append(place)
        self._origins.append(origin)

    @property
    def escapes(self) -> int:
        """How many were undone."""
        return len(self._places) // 2

    def origin(self, place: int) -> int:
        """Where `place` was before."""
        last = bisect_right(self._places, place) - 1
        return place if last < 0 else self._origins[last] + place - self._places[last]


def _meaning(escape: re.Match[str]) -> str:
    unicode, byte, literal, percent, entity = escape.groups()
    code = unicode or byte or percent
    if code:
        return chr(int(code, 16))
    if entity:
        return html.unescape(entity)
    return literal or ""


def readings(text: str) -> Iterator[str]:
    """`text` itself, and what it becomes where escapes are undone that are none of its own."""
    for _ in range(_MOST_LAYERS):
        yield text
        layer = _Layer(text, _ESCAPE, _MOST_ESCAPES)
        if not layer.escapes:
            return
        text = layer.text


def spelt_spans(text: str, search: Search) -> tuple[list[Span], int]:
    """Where `search` finds anything in `text` or, escapes undone, in what it stands for.

    The spans do not overlap and are in order. The number is how far was looked, which is less
    than all only for text with hundreds of thousands of escapes.
    """
    found = list(search(text))
    looked = len(text)
    for escape in (_ESCAPE, _JSON_ESCAPE):
        layers: list[_Layer] = []
        current, most = text, _MOST_ESCAPES
        for _ in range(_MOST_LAYERS):
            layer = _Layer(current, escape, most)
            looked = min(looked, _traced(layers, layer.end))
            if not layer.escapes:
                break
            most -= layer.escapes
            layers.append(layer)
            current = layer.text
            found += ((_traced(layers, a), _traced(layers, b)) for a, b in search(current))
    return _merged(found), looked


def _traced(layers: list[_Layer], place: int) -> int:
    for layer in reversed(layers):
        place = layer.origin(place)
    return place


def _merged(spans: list[Span]) -> list[Span]:
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
