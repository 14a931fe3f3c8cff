"""The command line that every loop takes: INPUT GATEWAY OUTPUT CONCURRENCY."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

__all__ = ["Arguments"]


class Arguments(msgspec.Struct, frozen=True):
    """A batch file, a gateway's base URL, where results go, and how many requests in flight."""

    input: Path
    gateway: str
    output: Path
    concurrency: int

    @classmethod
    def parse(cls) -> Arguments:
        source, gateway, output, concurrency = sys.argv[1:]
        return cls(Path(source), gateway, Path(output), int(concurrency))
