"""Somebody else's words as one short line."""

from __future__ import annotations

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["MESSAGE_LIMIT", "short_text"]

MESSAGE_LIMIT = 300

# Control characters, too: a gateway must not be able to move the cursor of a terminal, or to turn
# the direction of what follows. The joiners between them stay, which emoji are made with.
_BLANKS = rare_pattern(
    "[\\s\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]+"
)
# Half a surrogate pair can stand in JSON but not in UTF-8.
_HALF_PAIR = rare_pattern("[\ud800-\udfff]")


def short_text(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """One line of at most `limit` characters, without control characters.

    What was cut ends in "…".
    """
    line = _HALF_PAIR.sub("\ufffd", _BLANKS.sub(" ", text)).strip()
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
