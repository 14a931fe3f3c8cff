"""What files of results are called where nobody says it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["default_errors", "default_output", "is_packed", "unpacked_name"]

_PACKED: Final = frozenset({".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz"})


def is_packed(name: str) -> bool:
    """Whether it is the name of a compressed file."""
    return Path(name).suffix.lower() in _PACKED


def unpacked_name(name: str) -> Path:
    """The name of an input, a path or a URL, without compression and query."""
    path = Path(name.partition("?")[0] if "://" in name else name)
    return path.with_suffix("") if is_packed(path.name) else path


def default_output(name: str) -> Path:
    """`<stem>.results.jsonl` in the current folder."""
    return Path(f"{unpacked_name(name).stem}.results.jsonl")


def default_errors(output: Path) -> Path:
    """`<output stem>.errors.jsonl` beside the output."""
    return output.with_name(f"{output.stem}.errors.jsonl")
