"""Tables as CSV and TSV, for spreadsheets and for programs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from batch_gateway.tables.answer_row import Cells
from batch_gateway.tables.columns import as_json_text

__all__ = ["write_delimited"]

# What spreadsheets take for the beginning of a formula (OWASP, "CSV Injection"); a number is none,
# whatever its sign.
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")


def write_delimited(
    stream: TextIO, names: Sequence[str], rows: Iterable[Cells], delimiter: str, *, exact: bool
) -> int:
    """Write a header and the rows; how many texts got an apostrophe before them.

    Those are the ones that a spreadsheet would take for a formula, which whoever wrote an input or
    an answer may have meant it to; with `exact` there are none. What is not there is empty, lists
    and objects are JSON, quotes are as in RFC 4180, and lines end with a line feed.
    """
    writer = csv.writer(_Lines(stream), delimiter=delimiter)
    guard = _Guard(exact=exact)
    writer.writerow([guard.text(name) for name in names])
    writer.writerows([guard.cell(row[name]) for name in names] for row in rows)
    return guard.count


class _Lines:
    """Ends lines with a line feed alone.

    Python's writer puts quotes around what stands in its line ends, and elsewhere leaves a carriage
    return without, at which readers end a line.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line.removesuffix("\r\n") + "\n")


class _Guard:
    """Makes texts harmless, and counts them."""

    def __init__(self, *, exact: bool) -> None:
        self.count = 0
        self._exact = exact

    def cell(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, bool):
            return "true" if value else "false"
        if value is None or isinstance(value, int | float):
            return value
        # JSON, whose objects and lists do not begin like formulas; a date of Parquet is text.
        return as_json_text(value) if isinstance(value, dict | list | tuple) else str(value)

    def text(self, value: str) -> str:
        if self._exact or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
            return value
        self.count += 1
        return f"'{value}"
