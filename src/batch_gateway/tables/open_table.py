"""Tables from files of results, or from results that a program has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

from batch_gateway.config_checks import PathLike
from batch_gateway.engine.line_stream import BatchResult
from batch_gateway.engine.result_names import default_errors
from batch_gateway.engine.results import failure_outcome, success_outcome
from batch_gateway.engine.source import FileSource, Source
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.read_input import InputOptions
from batch_gateway.inputs.read_requests import Requests
from batch_gateway.tables.answer_row import Cells
from batch_gateway.tables.asked_rows import AskedRows
from batch_gateway.tables.field_path import FieldPath
from batch_gateway.tables.parquet import record_batches
from batch_gateway.tables.table import Table, TableCounts
from batch_gateway.tables.table_file import check_place, format_of_table, write_table_file
from batch_gateway.wire.json_schema import JSONSchema
from batch_gateway.wire.lines import line_id

__all__ = ["ResultRows", "open_table", "read_results", "write_table"]

Results = PathLike | FileSource | Iterable[BatchResult]
Input = PathLike | Requests | AskedRows
Schema = PathLike | Mapping[str, Any]
_NO_INPUT = "0" * 16


def write_table(
    results: Results,
    path: PathLike,
    *,
    input: Input | None = None,
    errors: PathLike | None = None,
    fields: Iterable[str] = (),
    json_schema: Schema | None = None,
    exact: bool = False,
    overwrite: bool = False,
) -> TableCounts:
    """Write results as a table: one row for each request, in the input's order.

    Args:
        results: a file of results, by its path or open, or results such as `run_batch` gives.
        path: what to write; its ending says the form: .csv, .tsv, .jsonl or .parquet.
        input: what was sent, a file or what `read_requests` made of data; its columns are kept,
            and what has no result yet has a row too.
        errors: the file of failures; that beside `results` unless given, if it is there.
        fields: columns to pick from answers that are JSON: a path, or `name=path`.
        json_schema: what such answers have to be; a file or the schema itself.
        exact: leave texts of CSV as they are that a spreadsheet would take for formulas; else they
            begin with an apostrophe.
        overwrite: replace whatever is at `path`, and not only an earlier table.

    Returns what the table came to. Raises InputError for files that are not what they should be,
    ConfigError for arguments, and JournalError when it cannot be written; then nothing is.
    """
    target = Path(path)
    format_of_table(target)
    check_place(target, overwrite=overwrite)
    with open_table(
        results, input=input, errors=errors, fields=fields, json_schema=json_schema
    ) as table:
        check_place(target, table.possible_columns, overwrite=overwrite)
        table.counts.guarded = write_table_file(target, table.columns, table, exact=exact)
        return table.counts


def read_results(
    results: PathLike,
    *,
    input: Input | None = None,
    errors: PathLike | None = None,
    fields: Iterable[str] = (),
    json_schema: Schema | None = None,
) -> ResultRows:
    """The rows of `write_table`, as dictionaries with the same keys; they are read when taken.

    `pandas.DataFrame(rows)`, `polars.DataFrame(rows)` and `pyarrow.table(rows)` take them as they
    are. Raises what `write_table` raises, when rows are taken.
    """
    return ResultRows(
        results, input=input, errors=errors, fields=tuple(fields), json_schema=json_schema
    )


class ResultRows:
    """Rows of a file of results. They may be taken several times, and nothing stays open."""

    def __init__(self, results: PathLike, **options: Any) -> None:
        self._results, self._options = results, options

    def __iter__(self) -> Iterator[Cells]:
        with open_table(self._results, **self._options) as table:
            yield from table

    def to_arrow(self) -> Any:
        """All of them as a `pyarrow.Table`. Raises ConfigError where pyarrow is not installed."""
        with open_table(self._results, **self._options) as table:
            return record_batches(table.columns, table).read_all()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Arrow's PyCapsule interface, by which other libraries take them."""
        return self.to_arrow().__arrow_c_stream__(requested_schema)


@contextmanager
def open_table(
    results: Results,
    *,
    input: Input | None = None,
    errors: PathLike | None = None,
    fields: Iterable[str] = (),
    json_schema: Schema | None = None,
) -> Generator[Table]:
    """The table of results, while their files are open; arguments see `write_table`."""
    if isinstance(fields, str):
        raise ConfigError("fields", f"must be several texts, not one: write [{fields!r:.80}]")
    paths = [FieldPath.parse(field, "fields") for field in fields]
    schema = None if json_schema is None else _schema(json_schema)
    with ExitStack() as stack:
        sources = [_closed_with(stack, one) for one in _sources(results, errors)]
        asked = None
        if input is not None:
            asked = input if isinstance(input, AskedRows) else _asked(input, stack)
        yield stack.enter_context(Table(sources, asked, paths, schema))


def _asked(input: PathLike | Requests, stack: ExitStack) -> AskedRows:
    data = input if isinstance(input, Requests) else Requests(input, InputOptions())
    return AskedRows(data.rows(stack), data.options)


def _closed_with(stack: ExitStack, source: Source) -> Source:
    stack.callback(source.close)
    return source


def _schema(given: Schema) -> JSONSchema:
    if isinstance(given, str | os.PathLike):
        return JSONSchema.from_file(Path(given))
    return JSONSchema(given)


def _sources(results: Results, errors: PathLike | None) -> Iterator[Source]:
    """The files of failures first: of a line in both the success counts."""
    is_named = isinstance(results, str | os.PathLike)
    beside = default_errors(Path(results)) if is_named else None
    if errors is not None:
        yield FileSource.open(errors)
    elif beside is not None and beside.is_file():
        yield FileSource.open(beside)
    if isinstance(results, FileSource):
        yield results
    else:
        yield FileSource.open(results) if is_named else _spooled(results)


def _spooled(results: Iterable[BatchResult]) -> Source:
    with tempfile.TemporaryFile() as file:
        for result in results:
            file.write(_line(result))
        file.flush()
        return FileSource(os.dup(file.fileno()), "the results")


def _line(result: BatchResult) -> bytes:
    result_id = line_id(_NO_INPUT, result.index)
    if result.response is not None:
        return success_outcome(result.index, result_id, result.custom_id, result.response).line
    error = cast("Any", result.error)
    return failure_outcome(result.index, result_id, result.custom_id, error).line
