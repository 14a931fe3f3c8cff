"""What others wrote, made harmless for a terminal: it cannot move the cursor or turn text around.

Everything that this program prints goes through here. Whatever is no visible character is shown by
its number: control characters of both sets, the marks that change the direction of writing, breaks
of lines and paragraphs that only Unicode knows, halves of surrogate pairs.
"""

from __future__ import annotations

import json

__all__ = ["one_line", "printable", "printable_json"]


def printable(text: str) -> str:
    """`text` with its line breaks and tabs, and without anything else that is not visible."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)


def one_line(text: str) -> str:
    """Like `printable`, and line breaks are shown too, so that no line can be forged."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_json(text: str) -> str:
    """JSON `text` that means the same and is visible as a whole."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
