"""The words in HTML and XML, in one pass over whatever a proxy or a store sent."""

from __future__ import annotations

import re
from collections.abc import Iterator

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["element_texts", "has_markup", "plain_text", "unescape"]

# html.unescape alone would take any number of digits, and Python refuses to read 5,000 of them.
_REFERENCE = rare_pattern(
    r"&(?:#[0-9]{1,7}(?!\d)|#[xX][0-9a-fA-F]{1,6}(?![0-9a-fA-F])|[A-Za-z][A-Za-z0-9]{1,31});?"
)
_TAG = rare_pattern(r"<[A-Za-z/!?]")
_NAME = rare_pattern(r"/?(?:[\w.-]{1,64}:)?([\w.-]{1,64})")
_UNSEEN = ("script", "style")
_UNSEEN_END = rare_pattern(r"</(?:script|style)", re.IGNORECASE)
_CDATA = "<![CDATA["


def has_markup(text: str) -> bool:
    """Whether `text` has elements, and is not a sentence in which something is smaller."""
    return text.lstrip()[:1] == "<" or "</" in text


def unescape(text: str) -> str:
    """`text` with its character references replaced."""
    import html  # noqa: PLC0415 - two thousand names, which only refusals in markup need

    return _REFERENCE.sub(lambda found: html.unescape(found.group()), text)


def plain_text(text: str) -> str:
    """All that a reader would see of it."""
    return unescape(" ".join(piece for _, piece in _pieces(text)))


def element_texts(text: str, names: frozenset[str]) -> dict[str, str]:
    """The text inside the first element of each of `names` that has any, in lower case.

    An element without an end goes on to the end. The namespace of a name does not count.
    """
    found: dict[str, list[str]] = {}
    inside: set[str] = set()
    done: set[str] = set()
    for tag, piece in _pieces(text):
        name = tag.lstrip("/")
        if name in names and name not in done:
            if name == tag:
                inside.add(name)
            elif name in inside:
                inside.discard(name)
                if name in found:
                    done.add(name)
        if inside and piece.strip():
            for one in inside:
                found.setdefault(one, []).append(piece)
    return {name: unescape(" ".join(parts)).strip() for name, parts in found.items()}


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    """Each tag's name in lower case, "/" before it when it ends an element, and the text up to
    the next tag. Every search begins where the last one ended, and the first in vain is the last.
    """
    tag, at = "", 0
    while (found := _TAG.search(text, at)) is not None:
        start = found.start()
        yield tag, text[at:start]
        is_data = text.startswith(_CDATA, start)
        closing = "]]>" if is_data else "-->" if text.startswith("<!--", start) else ">"
        end = text.find(closing, start + 1)
        if is_data:
            yield "", text[start + len(_CDATA) : end if end >= 0 else len(text)]
        if end < 0:
            return
        tag, at = _tag_name(text, start + 1, end), end + len(closing)
        if tag in _UNSEEN:
            if (unseen := _UNSEEN_END.search(text, at)) is None:
                return
            at = unseen.start()
    yield tag, text[at:]


def _tag_name(text: str, start: int, end: int) -> str:
    named = _NAME.match(text, start, end)
    if named is None:
        return ""
    return ("/" if text[start] == "/" else "") + named.group(1).lower()
