"""Finds a text in another one in whichever way it is spelt there: as it is, or escaped.

What a gateway quotes may have gone through JSON, HTML or a URL, or through several of them one
after the other. So each layer of escapes is undone in turn, with the places noted where it was,
and what is found then is told by its place in what arrived.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["CUT", "looks_escaped", "readings", "spelt_spans"]

Span = tuple[int, int]
Search = Callable[[str], Iterator[Span]]

CUT = "…"
"""What `short_text` ends with where it has cut."""

# JSON within JSON has two layers of backslashes, and it doubles from there.
_MOST_LAYERS = 10
# In all layers, some tenths of a second. Nobody needs what comes after so many in an error.
_MOST_ESCAPES = 200_000

_BACKSLASHES = r"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([\"'/\\bfnrt]))"
_OTHERS = r"%([0-9a-fA-F]{2})|(&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,8});?)"
# Before a cut, also where all that arrived ends; it stands for nothing.
_HALF = r"(?:\\{1,8}(?:[ux][0-9a-fA-F]{0,3})?|&#?[0-9A-Za-z]{0,9}|%[0-9a-fA-F]?)(?=…|\Z)"
_ESCAPE = rare_pattern(f"{_BACKSLASHES}|{_OTHERS}")
_ESCAPE_OR_HALF = rare_pattern(f"{_HALF}|{_BACKSLASHES}|{_OTHERS}")
# With the groups of the others, of which it finds none.
_JSON_ESCAPE = rare_pattern(rf"{_BACKSLASHES}|()()(?!)")
_ESCAPE_SIGNS = "\\%&"


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
        import html  # noqa: PLC0415 - two thousand names, for words that hold some

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


def looks_escaped(text: str) -> bool:
    """Whether there may be escapes in `text`."""
    return any(sign in text for sign in _ESCAPE_SIGNS)


def spelt_spans(text: str, search: Search, *, like_escapes: bool = False) -> tuple[list[Span], int]:
    """Where `search` finds anything in `text` or, escapes undone, in what it stands for.

    `like_escapes` says that what it looks for may look like escapes itself: then it is also
    looked for where only those of JSON are undone. The spans do not overlap and are in order. The
    number is how far was looked, which is less than all only for text with 200,000 escapes.
    """
    found, looked = list(search(text)), len(text)
    if looks_escaped(text):
        kinds = [_ESCAPE_OR_HALF, *([_JSON_ESCAPE] * like_escapes)]
        for kind in kinds:
            more, end = _below(text, search, kind)
            found += more
            looked = min(looked, end)
    return _merged(found), looked


def _below(text: str, search: Search, kind: re.Pattern[str]) -> tuple[list[Span], int]:
    """The same with one layer of escapes undone after the other."""
    found: list[Span] = []
    layers: list[_Layer] = []
    looked, current, most = len(text), text, _MOST_ESCAPES
    for _ in range(_MOST_LAYERS):
        layer = _Layer(current, kind, most)
        looked = min(looked, _traced(layers, layer.end))
        if not layer.escapes:
            break
        most -= layer.escapes
        layers.append(layer)
        current = layer.text
        found += [(_traced(layers, a), _traced(layers, b)) for a, b in search(current)]
    return found, looked


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
