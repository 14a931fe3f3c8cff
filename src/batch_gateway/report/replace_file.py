"""Putting a page in the place of an earlier one, and of no file of others."""

from __future__ import annotations

from pathlib import Path

from batch_gateway.engine.whole_file import replacing

__all__ = ["GENERATOR", "replace_file", "why_not_ours"]

GENERATOR = '<meta name="generator" content="batch-gateway">'
"""In the head of every page: tells our pages from the files of others."""

_HEAD_BYTES = 1024


def why_not_ours(path: Path, mark: str = GENERATOR) -> str:
    """What a file is that must not be replaced; nothing for an empty file or none.

    Nor for one of ours, which has `mark` near its beginning.
    """
    try:
        if not path.exists():
            return ""
        if not path.is_file():
            return "is not a regular file"
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return f"cannot be looked at: {error.strerror}"
    is_ours = not head or mark.encode() in head
    return "" if is_ours else "is no report of this program, so it is left alone"


def replace_file(path: Path, text: str) -> None:
    """Put `text` at `path` in one step. Raises OSError, and then leaves what was there."""
    with replacing(path) as stream:
        stream.write(text.encode(errors="replace"))
