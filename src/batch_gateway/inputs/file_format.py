"""Which format a file has: by what it holds, else by its name, else as it is told."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, get_args

import msgspec

from batch_gateway.engine.result_names import unpacked_name

__all__ = [
    "FORMATS",
    "InputFormat",
    "begins_as_batch",
    "format_of",
    "is_of_batch",
]

InputFormat = Literal["jsonl", "csv", "tsv", "parquet", "text"]
FORMATS: Final[tuple[str, ...]] = get_args(InputFormat)

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
_BATCH_FIELDS: Final = frozenset({"custom_id", "method", "url", "body"})
_PARQUET: Final = b"PAR1"
_BOM: Final = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def format_of(name: str, head: bytes) -> InputFormat | None:
    """The format of a file by its name and first bytes; None where neither tells.

    What its first line says counts more: a batch may be called requests.txt.
    """
    if head.startswith(_PARQUET):
        return "parquet"
    if _object(_first_line(head)) is not None:
        return "jsonl"
    return _BY_NAME.get(unpacked_name(name).suffix.lower())


def begins_as_batch(head: bytes) -> bool:
    """Whether the first line is a request of a batch file, or nothing that could be data."""
    fields = _object(_first_line(head))
    return fields is None or is_of_batch(fields.keys())


def is_of_batch(fields: Collection[str]) -> bool:
    """Whether an object with these fields is meant as a line of a batch file."""
    names_a_request = "method" in fields or "custom_id" in fields
    # Emails have a body, and pages a url; of results the first pass knows what they are.
    return (
        ("body" in fields and names_a_request)
        or ("url" in fields and "method" in fields)
        or ("response" in fields and names_a_request)
        or (bool(fields) and _BATCH_FIELDS.issuperset(fields))
    )


def _first_line(head: bytes) -> bytes:
    return head.removeprefix(_BOM).lstrip().partition(b"\n")[0]


def _object(line: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
