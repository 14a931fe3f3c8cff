"""The fenced code blocks of the documents, and how each is to be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(
    r"^(?:<!--\s*(?P<note>[^>]*?)\s*-->\s*\n)?```(?P<language>\w*)\n(?P<code>.*?)^```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """`note` is the comment right above the fence: how a test treats the block."""

    path: Path
    line: int
    language: str
    note: str
    code: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks() -> Iterator[Block]:
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        for found in _BLOCK.finditer(text):
            line = text.count("\n", 0, found.start("language")) + 1
            yield Block(path, line, found["language"], found["note"] or "", found["code"])
