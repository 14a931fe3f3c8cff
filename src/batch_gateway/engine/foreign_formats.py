"""Files that are given as a batch and are something else, by how they begin, and the cure."""

from __future__ import annotations

import re
import shlex
from typing import Final

import msgspec

__all__ = ["archive_advice", "for_file", "foreign_advice", "layout_advice"]

_ARCHIVES: Final = (
    (b"BZh", "is compressed with bzip2: unpack it first, or pipe `bzip2 -dc FILE` into `-`"),
    (b"\xfd7zXZ\0", "is compressed with xz: unpack it first, or pipe `xz -dc FILE` into `-`"),
    (
        b"\x04\x22\x4d\x18",
        "is compressed with lz4: unpack it first, or pipe `lz4 -dc FILE` into `-`",
    ),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it first"),
    (
        b"PK\x03\x04",
        "is a zip archive, or an Excel workbook: unpack it first, or save the sheet as CSV",
    ),
)
_WHAT_RUN_READS: Final = (
    (b"\x1f\x8b", "is compressed with gzip: unpack it first, or pipe `gzip -dc FILE` into `-`"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd: unpack it first"),
    (b"PAR1", "is a Parquet file: write it as JSON lines first"),
)
_UTF16: Final = "is UTF-16 text: save it as UTF-8, as `iconv -f UTF-16 -t UTF-8 FILE` does"
_UTF32: Final = "is UTF-32 text: save it as UTF-8, as `iconv -f UTF-32 -t UTF-8 FILE` does"
# Longer marks first: UTF-32's begins with that of UTF-16. Without a mark it is known by a brace.
_TEXTS: Final = (
    (b"\xff\xfe\0\0", _UTF32),
    (b"\0\0\xfe\xff", _UTF32),
    (b"{\0\0\0", _UTF32.replace("-f UTF-32", "-f UTF-32LE")),
    (b"\0\0\0{", _UTF32.replace("-f UTF-32", "-f UTF-32BE")),
    (b"\xff\xfe", _UTF16),
    (b"\xfe\xff", _UTF16),
    (b"{\0", _UTF16.replace("-f UTF-16", "-f UTF-16LE")),
    (b"\0{", _UTF16.replace("-f UTF-16", "-f UTF-16BE")),
    (b"[", "is one JSON array: write each request on a line, as `jq -c '.[]' FILE` does"),
)
_OVER_SEVERAL_LINES: Final = re.compile(rb"\{[ \t]*\r?\n")
_OF_RESULTS: Final = frozenset({"custom_id", "response", "error"})
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def archive_advice(head: bytes) -> str | None:
    """What to do with a file that nothing here can unpack, after its name; None for others."""
    return _advice(head, _ARCHIVES)


def foreign_advice(head: bytes) -> str | None:
    """What to do with a file that is no batch and begins so, after its name; None for others."""
    found = archive_advice(head) or _advice(head, _WHAT_RUN_READS) or _advice(head, _TEXTS)
    if found is not None:
        return found
    if _is_result(head.lstrip().partition(b"\n")[0]):
        return "holds results and no requests: give the file that they are the results of"
    return layout_advice(head)


def for_file(advice: str, name: str) -> str:
    """`advice` with the command for the file of this name."""
    return advice.replace("FILE`", f"{shlex.quote(name)}`")


def layout_advice(head: bytes) -> str | None:
    """What to do with JSON that is no object a line, after the file's name; None for others."""
    text = head.lstrip()
    if _OVER_SEVERAL_LINES.match(text):
        return "has requests over several lines: write each on one, as `jq -c . FILE` does"
    return _advice(text, _TEXTS[-1:])


def _advice(head: bytes, known: tuple[tuple[bytes, str], ...]) -> str | None:
    return next((advice for magic, advice in known if head.startswith(magic)), None)


def _is_result(line: bytes) -> bool:
    try:
        return _decode(line).keys() >= _OF_RESULTS
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
