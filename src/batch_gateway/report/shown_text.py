"""What others wrote, as a page can show it: nothing invisible, and not too much of it."""

from __future__ import annotations

__all__ = ["short_text", "shown_text"]

_LONGEST_TEXT = 300
# Joins what is one sign of a script or an emoji; all other invisible characters are shown as such.
_JOINERS = "\u200c\u200d"


def short_text(text: str) -> str:
    """As `shown_text`, cut where it is long."""
    return shown_text(text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…")


def shown_text(text: str) -> str:
    """`text` with a sign for what would not be seen, or would turn the text around it."""
    return "".join(
        sign if sign.isprintable() or sign in _JOINERS or sign == "\n" else "\ufffd"
        for sign in text
    )
