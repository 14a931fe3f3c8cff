"""Which format a file has: by what it holds, else by its name, else as it is told."""

from __future__ import annotations

from pathlib import PurePath
from typing import Final, Literal, get_args

import msgspec

__all__ = ["FORMATS", "InputFormat", "format_of"]

InputFormat = Literal["jsonl", "csv", "tsv", "parquet", "text"]
FORMATS: Final[tuple[str, ...]] = get_args(InputFormat)

_PACKED: Final = frozenset({".gz", ".gzip", ".zst", ".zstd"})
_BY_NAME: Final[dict[str, InputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "text",
    ".text": "text",
}
_PARQUET: Final = b"PAR1"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def format_of(name: str, head: bytes) -> InputFormat | None:
    """The format of a file by its name and first bytes; None where neither tells.

    What its first line says counts more: a batch may be called requests.txt.
    """
    if head.startswith(_PARQUET):
        return "parquet"
    if _is_object(head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]):
        return "jsonl"
    endings = [ending.lower() for ending in PurePath(name.partition("?")[0]).suffixes]
    while endings and endings[-1] in _PACKED:
        endings.pop()
    return _BY_NAME.get(endings[-1]) if endings else None


def _is_object(line: bytes) -> bool:
    try:
        _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
