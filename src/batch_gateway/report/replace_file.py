"""Writing a page so that whoever opens it sees the old one or the new one, whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

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
    import tempfile  # noqa: PLC0415 - slow to load, and most runs write no page

    path = Path(os.path.realpath(path))
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _with_usual_mode(name)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _with_usual_mode(name: str) -> None:
    # A temporary file is for its owner alone; a report is as readable as any other new file.
    mask = os.umask(0)
    os.umask(mask)
    Path(name).chmod(0o666 & ~mask)
