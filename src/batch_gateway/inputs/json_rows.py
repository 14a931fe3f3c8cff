"""Rows of JSON lines: an object a line, each with columns of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec

from batch_gateway.engine.foreign_formats import for_file, layout_advice
from batch_gateway.engine.line_blocks import MAX_LINE_BYTES, is_utf8
from batch_gateway.engine.problems import Fault
from batch_gateway.engine.validate import diagnose
from batch_gateway.errors import InputError
from batch_gateway.inputs.data_row import BadRow, Row

__all__ = ["json_rows"]

_BOM: Final = b"\xef\xbb\xbf"
_decode = msgspec.json.Decoder(dict[str, object]).decode


def json_rows(stream: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    """A row for each line that is not blank."""
    number = 0
    for line_number, line in enumerate(_lines(stream, name), 1):
        text = line.removeprefix(_BOM) if line_number == 1 else line
        if text.isspace():
            continue
        number += 1
        if number == 1 and (advice := layout_advice(text)) is not None:
            raise InputError(f"{name} {for_file(advice, name)}")
        try:
            values = _decode(text) if is_utf8(text) else None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            values = None
        if values is None:
            yield BadRow(line_number, number, _faults(text))
        else:
            yield Row(line_number, number, values, text)


def _lines(stream: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            limit = MAX_LINE_BYTES // 1024**2
            raise InputError(f"{name}: line {number} is longer than {limit} MiB")
        yield line


def _faults(text: bytes) -> tuple[Fault, ...]:
    return tuple(diagnose(text.removesuffix(b"\n")).problems)
