"""A table in a file: there as a whole or not at all, and never in the place of another's file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterable
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Final, Literal

import msgspec

from batch_gateway.engine.whole_file import replacing
from batch_gateway.errors import ConfigError, JournalError
from batch_gateway.tables.answer_row import ALWAYS, Cells
from batch_gateway.tables.columns import Column, as_json_text
from batch_gateway.tables.delimited import write_delimited
from batch_gateway.tables.parquet import MARK, loaded_arrow, write_parquet
from batch_gateway.tables.table import ID

__all__ = ["TableFormat", "check_place", "format_of_table", "write_table_file"]

TableFormat = Literal["csv", "tsv", "parquet", "jsonl"]
_ENDINGS: Final[dict[str, TableFormat]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_HEAD_BYTES = 64 * 1024
# What every table of ours has, whatever its input.
_OURS = {ID, *(one.name for one in ALWAYS if one.name not in ("text", "error"))}


def format_of_table(path: Path, place: str = "path") -> TableFormat:
    """What the file's name says it is to be. Raises ConfigError with `place`."""
    found = _ENDINGS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(
            place, f"{path} does not say which form it is to have: end it with .csv, .tsv, .jsonl"
            " or .parquet"
        )  # fmt: skip
    if found == "parquet":
        loaded_arrow()
    return found


def check_place(path: Path, columns: Collection[str] = (), *, overwrite: bool = False) -> None:
    """Raises JournalError for a place where a table would destroy something, or cannot be.

    An earlier table of answers is nothing to be kept: a file with what every table of ours has and,
    where `columns` are given, no column but those. `overwrite` is to have any file replaced.
    """
    try:
        if path.is_dir() or not path.name:
            raise JournalError(f"{path} is a folder; give the name of a file")
        if not path.absolute().parent.is_dir():
            raise JournalError(f"{path}: there is no folder {path.absolute().parent}")
        if not os.access(path.absolute().parent, os.W_OK):
            raise JournalError(f"{path}: its folder cannot be written to")
        if not path.exists():
            return
        if not path.is_file():
            raise JournalError(f"{path} is not a regular file; name one that is, or a new one")
        if not overwrite and path.stat().st_size and not _is_ours(path, columns):
            raise JournalError(
                f"{path} is there already, and is no earlier table of these answers: remove it,"
                " name another file, or ask for it to be overwritten (--overwrite)"
            )
    except OSError as error:
        raise _unwritable(path, error) from error


def write_table_file(
    path: Path, columns: list[Column], rows: Iterable[Cells], *, exact: bool = False
) -> int:
    """Write the table, in the form that its name says; whoever opens it sees all of it.

    Returns how many texts got an apostrophe; see `write_delimited`. Raises JournalError,
    ConfigError and what `rows` raise, and then leaves what was there.
    """
    form = format_of_table(path)
    try:
        with replacing(path) as stream:
            return _write(stream, form, columns, rows, exact=exact)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(
    stream: IO[bytes],
    form: TableFormat,
    columns: list[Column],
    rows: Iterable[Cells],
    *,
    exact: bool,
) -> int:
    if form == "parquet":
        write_parquet(stream, columns, rows)
        return 0
    if form == "jsonl":
        stream.writelines(as_json_text(row).encode() + b"\n" for row in rows)
        return 0
    # Half a surrogate pair, which JSON may have, is no text anywhere else.
    text = io.TextIOWrapper(stream, "utf-8", errors="replace", newline="")
    names = [column.name for column in columns]
    guarded = write_delimited(text, names, rows, _delimiter(form), exact=exact)
    text.flush()
    text.detach()
    return guarded


def _is_ours(path: Path, columns: Collection[str]) -> bool:
    try:
        names = _columns_of(path)
    except (OSError, ValueError, csv.Error):
        return False
    return names >= _OURS and (not columns or names <= set(columns))


def _columns_of(path: Path) -> set[str]:
    form = format_of_table(path)
    if form == "parquet":
        schema: Any = import_module("pyarrow.parquet").read_schema(path)
        return set(schema.names) if (schema.metadata or {}).items() >= MARK.items() else set()
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if form == "jsonl":
        return set(msgspec.json.decode(head.partition(b"\n")[0], type=dict[str, msgspec.Raw]))
    lines = csv.reader(io.StringIO(head.decode(errors="replace")), delimiter=_delimiter(form))
    return {name.removeprefix("'") for name in next(lines, ())}


def _delimiter(form: TableFormat) -> str:
    return "\t" if form == "tsv" else ","


def _unwritable(path: Path, error: OSError) -> JournalError:
    return JournalError(f"{path} cannot be written: {error.strerror or error}")
