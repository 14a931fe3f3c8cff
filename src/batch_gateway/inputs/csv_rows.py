"""Rows of CSV and of its kin with other delimiters: quotes, line breaks within them, a header."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from typing import Final

from batch_gateway.engine.line_blocks import MAX_LINE_BYTES
from batch_gateway.engine.problems import Fault
from batch_gateway.errors import InputError
from batch_gateway.inputs.data_row import BadRow, Row
from batch_gateway.inputs.text_lines import fault_of_text

__all__ = ["DELIMITERS", "columns_of", "csv_rows", "delimiter_of"]

DELIMITERS: Final = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
_QUOTED: Final = '"'


def delimiter_of(header: str) -> str:
    """What most likely separates the columns of this first line."""
    outside = "".join(header.split(_QUOTED)[::2])
    if "," in outside:
        return ","
    return max(";\t|", key=outside.count) if any(one in outside for one in ";\t|") else ","


class _Counted:
    """Lines, and how many were taken."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.taken += 1
            yield line


def _records(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | Fault]]:
    """Each record, or what is wrong with it, and the number of its first line; no blank ones."""
    csv.field_size_limit(MAX_LINE_BYTES)
    counted = _Counted(lines)
    reader = csv.reader(iter(counted), delimiter=delimiter, strict=True)
    while True:
        first = counted.taken + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield first, _fault(error, first)
            continue
        if fields is None:
            return
        if fields:
            yield first, fields


def _fault(error: csv.Error, first: int) -> Fault:
    text = str(error)
    if "unexpected end of data" in text or "field larger" in text:
        return Fault('begins a quoted field that never ends: its closing " is missing')
    if "expected after" in text:
        return Fault('has text behind a closing quote: a " within quotes is written ""')
    return Fault(f"is not CSV: {text}")


def columns_of(name: str, lines: Iterable[str], delimiter: str) -> tuple[str, ...]:
    """The names in the header. Raises InputError where it cannot be one."""
    empty: list[str] = []
    line, fields = next(_records(lines, delimiter), (1, empty))
    if isinstance(fields, Fault):
        raise InputError(f"{name}: its header, line {line}, {fields.text}")
    columns = tuple(field.strip() for field in fields)
    fault = fault_of_text("".join(columns))
    if fault is not None:
        raise InputError(f"{name}: its header, line {line}, {fault.text}")
    twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if twice:
        raise InputError(
            f"{name}: two columns are called {twice[0]!r:.80} in the header, line {line}: give"
            " each a name of its own"
        )
    return columns


def csv_rows(
    lines: Iterable[str], delimiter: str, columns: tuple[str, ...]
) -> Iterator[Row | BadRow]:
    """All rows below the header."""
    records = _records(lines, delimiter)
    next(records, None)
    for number, (line, fields) in enumerate(records, 1):
        checked = fields if isinstance(fields, Fault) else _checked(fields, columns)
        if isinstance(checked, Fault):
            yield BadRow(line, number, (checked,))
        else:
            yield Row(line, number, checked)


def _checked(fields: list[str], columns: tuple[str, ...]) -> dict[str, str] | Fault:
    if len(fields) != len(columns):
        has = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        return Fault(f"has {has}, and the header has {len(columns)}")
    return fault_of_text("".join(fields)) or dict(zip(columns, fields, strict=True))
