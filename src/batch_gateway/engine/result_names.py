"""What files of results are called where nobody says it."""

from __future__ import annotations

from pathlib import Path

__all__ = ["default_errors", "default_output"]


def default_output(name: str) -> Path:
    """`<stem>.results.jsonl` in the current folder."""
    return Path(f"{Path(name).stem}.results.jsonl")


def default_errors(output: Path) -> Path:
    """`<output stem>.errors.jsonl` beside the output."""
    return output.with_name(f"{output.stem}.errors.jsonl")
