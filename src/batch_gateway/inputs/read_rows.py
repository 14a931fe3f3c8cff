"""Opening a source of rows: unpacked, its format found, its columns read."""

from __future__ import annotations

import io
import itertools
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final, Self

from batch_gateway.engine.first_pass import ProgressCallback
from batch_gateway.engine.source import FileSource, Source
from batch_gateway.errors import EmptyInputError, InputError
from batch_gateway.inputs.csv_rows import columns_of, csv_rows, delimiter_of
from batch_gateway.inputs.data_row import BadRow, Row
from batch_gateway.inputs.file_format import InputFormat, format_of
from batch_gateway.inputs.json_rows import json_rows
from batch_gateway.inputs.parquet_rows import open_parquet, parquet_rows
from batch_gateway.inputs.source_stream import compression_of, reading, unpacked
from batch_gateway.inputs.text_lines import fault_of_text, text_lines

__all__ = ["PROMPT", "SourceRows", "rows_of"]

PROMPT: Final = "prompt"
"""The column of a file of plain text, which has a prompt a line."""

_HEAD_BYTES: Final = 64 * 1024


class SourceRows:
    """The rows of a source; made by `rows_of`. Close it, or use it as a context manager.

    Attributes:
        name: that of the source.
        format: what it holds.
        columns: their names in order; None for JSON lines.
        delimiter: what separates them in CSV and TSV, else "".
    """

    def __init__(
        self,
        source: Source,
        format: InputFormat,
        encoding: str | None,
        delimiter: str | None,
        on_progress: ProgressCallback | None,
    ) -> None:
        self.name = source.name
        self.format = format
        self.delimiter = ""
        self.columns: tuple[str, ...] | None = None
        self._encoding = encoding
        self._on_progress = on_progress
        self._unpacked: Source | None = None
        if format == "parquet" and compression_of(source):
            # Its end is wanted before its beginning.
            with reading(self.name), closing(unpacked(source)) as stream:
                source = self._unpacked = FileSource.spool(stream, self.name)
        self._source = source
        with self._opened() as stream:
            if format == "parquet":
                self.columns = tuple(open_parquet(stream, self.name).schema_arrow.names)
            elif format == "text":
                self.columns = (PROMPT,)
            elif format != "jsonl":
                self._read_header(text_lines(stream, self.name, encoding), delimiter)

    @property
    def typed(self) -> bool:
        """Whether its columns may have more than text."""
        return self.format in ("jsonl", "parquet")

    def _read_header(self, lines: Iterator[str], delimiter: str | None) -> None:
        header = next((line for line in lines if line.strip()), "")
        if not header:
            raise EmptyInputError(f"{self.name} has no header, and no rows")
        tab = "\t" if self.format == "tsv" else None
        self.delimiter = delimiter or tab or delimiter_of(header)
        self.columns = columns_of(self.name, itertools.chain([header], lines), self.delimiter)

    @contextmanager
    def _opened(self, on_progress: ProgressCallback | None = None) -> Generator[io.BufferedReader]:
        with reading(self.name), closing(unpacked(self._source, on_progress)) as stream:
            yield stream

    def __iter__(self) -> Iterator[Row | BadRow]:
        with self._opened(self._on_progress) as stream:
            yield from self._rows(stream)

    def _rows(self, stream: io.BufferedReader) -> Iterator[Row | BadRow]:
        if self.format == "jsonl":
            return json_rows(stream, self.name)
        if self.format == "parquet":
            return parquet_rows(open_parquet(stream, self.name), self.name)
        lines = text_lines(stream, self.name, self._encoding)
        if self.format == "text":
            return _text_rows(lines)
        return csv_rows(lines, self.delimiter, self.columns or ())

    def close(self) -> None:
        """Give back what it holds beside its source. A second call does nothing."""
        if self._unpacked is not None:
            self._unpacked.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def rows_of(
    source: Source,
    *,
    format: InputFormat | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    on_progress: ProgressCallback | None = None,
) -> SourceRows:
    """The rows of `source`, which stays open and the caller's.

    What is not told is found: the format by the first bytes and the name, the encoding by a
    byte-order mark, the delimiter by the header. `on_progress` is told while rows are read.
    Raises InputError where it cannot be read.
    """
    if format is None:
        with reading(source.name), closing(unpacked(source)) as stream:
            format = format_of(source.name, stream.read(_HEAD_BYTES))
    if format is None:
        raise InputError(
            f"{source.name}: neither its name nor its beginning tells what it holds: give"
            " --input-format jsonl, csv, tsv, parquet or text"
        )
    return SourceRows(source, format, encoding, delimiter, on_progress)


def _text_rows(lines: Iterator[str]) -> Iterator[Row | BadRow]:
    number = 0
    for line_number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text.strip():
            continue
        number += 1
        fault = fault_of_text(text)
        if fault is None:
            yield Row(line_number, number, {PROMPT: text})
        else:
            yield BadRow(line_number, number, (fault,))
