"""`batch-gateway table`: results as a table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from batch_gateway.cli.check_input import STANDARD_INPUT
from batch_gateway.cli.exit_codes import ExitCode
from batch_gateway.cli.input_options import asked_of_input, reading_options
from batch_gateway.cli.options import GroupedCommand, option
from batch_gateway.cli.progress_display import counted
from batch_gateway.cli.standard_streams import write_json, write_stdout
from batch_gateway.cli.terminal_text import printable
from batch_gateway.engine.source import FileSource
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.read_requests import Requests
from batch_gateway.tables.open_table import write_table
from batch_gateway.tables.table import TableCounts

__all__ = ["table"]

_PATH = click.Path(path_type=Path)
_FILES, _ANSWERS, _SHOW = "Files", "Answers that are JSON", "Display"
_FLAGS = {"fields": "--field", "json_schema": "--json-schema", "path": "-o", "table": "-o"}
_EPILOG = """\
Examples:
  batch-gateway table results.jsonl -o answers.csv
  batch-gateway table results.jsonl --input requests.jsonl -o answers.parquet
  batch-gateway table results.jsonl -o scores.csv --field score --field why=reasons.0

Exit codes: 0 the table is written, 1 it is, and answers are not what --json-schema says,
2 a file or the usage is wrong, 4 it could not be written.
"""


@click.command(
    cls=GroupedCommand, short_help="Make a table of results: CSV, TSV, Parquet.", epilog=_EPILOG
)
@click.argument("results", metavar="RESULTS")
@option(_FILES, "-o", "--output", type=_PATH, required=True,
        help="The table; its ending says the form: .csv, .tsv, .parquet or .jsonl.")  # fmt: skip
@option(_FILES, "--input", "asked", metavar="FILE|URL",
        help="What was sent: its columns are kept, and lines without a result too.")  # fmt: skip
@reading_options
@option(_FILES, "--errors", type=_PATH,
        help="Failed lines.  [RESULTS' name + .errors.jsonl, if it is there]")  # fmt: skip
@option(_FILES, "--overwrite", is_flag=True,
        help="Replace whatever the output is, not only an earlier table.")  # fmt: skip
@option(_FILES, "--exact", is_flag=True,
        help="CSV: no apostrophe before what a spreadsheet would take for a formula.")  # fmt: skip
@option(_ANSWERS, "--field", "fields", multiple=True, metavar="[NAME=]PATH",
        help="Make a column of what is there in answers: score, list[0].name.")  # fmt: skip
@option(_ANSWERS, "--json-schema", type=_PATH, help="Check answers against this JSON schema.")
@option(_SHOW, "--json", "as_json", is_flag=True, help="Say what it came to as one JSON object.")
def table(
    *,
    results: str,
    output: Path,
    asked: str | None,
    errors: Path | None,
    overwrite: bool,
    exact: bool,
    fields: tuple[str, ...],
    json_schema: Path | None,
    as_json: bool,
    **reading: Any,
) -> int:
    """Make a table of the file RESULTS of a batch (- is standard input): one row a line.

    Rows stand in the order of the input.
    """
    options = asked_of_input(reading)
    try:
        counts = write_table(
            FileSource.spool(sys.stdin.buffer) if results == STANDARD_INPUT else results,
            output,
            input=None if asked is None else Requests(asked, options),
            errors=errors,
            fields=fields,
            json_schema=json_schema,
            exact=exact,
            overwrite=overwrite,
        )
    except ConfigError as error:
        raise ConfigError(_FLAGS.get(error.field, error.field), error.problem) from error
    if as_json:
        write_json({"table": str(output), **msgspec.to_builtins(counts)})
    else:
        write_stdout(printable(f"{output}: {in_words(counts)}"))
    return ExitCode.SOME_FAILED if counts.unfit else ExitCode.SUCCEEDED


def in_words(counts: TableCounts) -> str:
    """What a table came to, for a person."""
    words = [counted(counts.rows, "row")]
    if counts.failed:
        words.append(f"{counts.failed:,} failed")
    if counts.unfit:
        words.append(f"{counts.unfit:,} not what the schema says")
    if counts.left:
        words.append(f"{counts.left:,} without a result yet")
    words += (
        f"no {name} in {counted(number, 'answer')}" for name, number in counts.without_field.items()
    )
    if counts.guarded:
        words.append(
            f"{counted(counts.guarded, 'text')} that a spreadsheet would take for a formula with an"
            " apostrophe before it (--exact leaves it out)"
        )
    return ", ".join(words)
