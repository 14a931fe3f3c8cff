"""From a source and what is asked of it to a checked plan: as it is, or made into requests."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from itertools import islice
from typing import Final

import msgspec

from batch_gateway.engine.first_pass import ProgressCallback, first_pass
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.source import FileSource, Source
from batch_gateway.errors import ConfigError, InputError
from batch_gateway.inputs.csv_rows import DELIMITERS
from batch_gateway.inputs.data_row import BadRow, Row, Rows
from batch_gateway.inputs.file_format import InputFormat, begins_as_batch, format_of
from batch_gateway.inputs.near_name import did_you_mean
from batch_gateway.inputs.read_rows import SourceRows, rows_of
from batch_gateway.inputs.recipe import Recipe
from batch_gateway.inputs.request_line import RequestLines
from batch_gateway.inputs.source_stream import compression_of
from batch_gateway.wire.lines import OTHER_ENDPOINTS

__all__ = ["InputOptions", "chosen", "on_their_lines", "open_rows", "plan_of", "request_lines"]

_HEAD_BYTES: Final = 64 * 1024
_MOST: Final = 20


class InputOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an input.

    Attributes:
        recipe: how its rows become requests.
        format, encoding, delimiter: told, not found; see `rows_of`.
        limit: only so many rows, the first.
        sample: only so many rows, chosen by chance, the same ones for the same `seed`.
        skip_bad_lines: rows with problems become failures.
        hosts, paths: see `same_endpoint`.
    """

    recipe: Recipe = Recipe()
    format: InputFormat | None = None
    encoding: str | None = None
    delimiter: str | None = None
    limit: int | None = None
    sample: int | None = None
    seed: int = 0
    skip_bad_lines: bool = False
    hosts: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()

    @property
    def takes_all_as_it_is(self) -> bool:
        """Whether a file of batch lines needs nothing done to it."""
        chooses = self.limit is not None or self.sample is not None
        return self.recipe.does_nothing and not chooses and self.format in (None, "jsonl")


def _silent(_: str) -> None:
    pass


def plan_of(
    source: Source,
    asked: InputOptions,
    *,
    on_progress: ProgressCallback | None = None,
    note: Callable[[str], None] = _silent,
) -> Plan:
    """The plan of `source`, which is the plan's from then on.

    A file of batch lines is read where it is. All else becomes one, in a temporary file that has
    each request on the line where its row is. `note` is told what was not taken as it is written.
    Raises InputError, and ConfigError for a recipe that does not fit the rows.
    """
    try:
        paths = {*OTHER_ENDPOINTS, *asked.paths}
        problem: InputError | None = None
        if asked.takes_all_as_it_is and _is_of_batch_lines(source):
            try:
                return Plan(source, first_pass(source, _MOST, on_progress, paths=paths))
            except InputError as error:
                problem = error
        spool = _made(source, asked, on_progress, note, problem)
        if spool is None:
            found = first_pass(source, _MOST, on_progress, paths=paths, skip=asked.skip_bad_lines)
            return Plan(source, found)
        return make_plan(
            spool,
            on_progress=on_progress,
            paths=paths,
            skip_bad_lines=asked.skip_bad_lines,
            made_with={} if asked.recipe.does_nothing else asked.recipe.marks(),
        )
    except BaseException:
        source.close()
        raise


def _is_of_batch_lines(source: Source) -> bool:
    """Whether it looks like a file of requests, be they faulty, and like no table."""
    if compression_of(source):
        return False
    head = source.read(0, min(_HEAD_BYTES, source.size()))
    return format_of(source.name, head) in (None, "jsonl") and begins_as_batch(head)


def _made(
    source: Source,
    asked: InputOptions,
    on_progress: ProgressCallback | None,
    note: Callable[[str], None],
    problem: InputError | None,
) -> FileSource | None:
    """The lines that its rows become. None when all stay as they are, which was a `problem`."""
    try:
        rows = open_rows(source, asked, on_progress)
    except InputError:
        if problem is None:
            raise
        raise _with_hint(problem) from problem
    with rows:
        lines = request_lines(rows, asked)
        spool = FileSource.keep(on_their_lines(chosen(rows, asked), lines), source.name)
    if problem is not None and not lines.changed:
        spool.close()
        return None
    spool.origin = source
    _tell(rows, lines, note)
    return spool


def _with_hint(problem: InputError) -> InputError:
    hint = "if it is no file of JSON lines, --input-format csv, tsv, text or parquet says so"
    return InputError(str(problem), [*problem.problems, hint])


def open_rows(
    source: Source, asked: InputOptions, on_progress: ProgressCallback | None = None
) -> SourceRows:
    """All its rows, read as `asked` tells; see `rows_of`."""
    return rows_of(
        source,
        format=asked.format,
        encoding=asked.encoding,
        delimiter=asked.delimiter,
        on_progress=on_progress,
    )


def request_lines(rows: Rows, asked: InputOptions) -> RequestLines:
    """What makes its rows requests. Raises ConfigError for columns that it does not have."""
    recipe, columns = asked.recipe, rows.columns
    if columns is not None:
        if recipe.template is not None:
            recipe.template.check(columns, rows.name)
        if recipe.id_column is not None and recipe.id_column not in columns:
            raise ConfigError(
                "id_column",
                f"{rows.name} has no column {recipe.id_column!r:.80}"
                f"{did_you_mean(recipe.id_column, columns)}; it has {', '.join(columns)}",
            )
    return RequestLines(recipe, typed=rows.typed, hosts=asked.hosts, paths=asked.paths)


def chosen(rows: Iterable[Row | BadRow], asked: InputOptions) -> Iterable[Row | BadRow]:
    """Those that are asked for, in order. A sample is held in memory."""
    taken = islice(rows, asked.limit)
    if asked.sample is None:
        return taken
    seed = str(asked.seed)

    def draw(row: Row | BadRow) -> tuple[bytes, int]:
        return blake2b(f"{seed} {row.number}".encode(), digest_size=8).digest(), row.number

    return sorted(heapq.nsmallest(asked.sample, taken, key=draw), key=lambda row: row.number)


def on_their_lines(rows: Iterable[Row | BadRow], lines: RequestLines) -> Iterator[bytes]:
    """A request for each row, on the line where that begins."""
    next_line = 1
    for row in rows:
        yield b"\n" * (row.line - next_line) + lines.line(row) + b"\n"
        next_line = row.line + 1


def _tell(rows: SourceRows, lines: RequestLines, note: Callable[[str], None]) -> None:
    if rows.delimiter and rows.delimiter != {"csv": ",", "tsv": "\t"}[rows.format]:
        words = next(word for word, one in DELIMITERS.items() if one == rows.delimiter)
        note(f"The columns of {rows.name} are separated by {words}s.")
    if lines.notes:
        (words, count), *others = lines.notes.most_common()
        more = f", and {len(others)} other spellings" if others else ""
        note(f"{'1 line' if count == 1 else f'{count:,} lines'}: {words}{more}.")
    if lines.unsent:
        note(f"Columns that are not sent: {', '.join(lines.unsent)}.")
