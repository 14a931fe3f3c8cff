"""The table that `run --table` asks for: looked at before anything is sent, written at the end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batch_gateway.cli.result_paths import check_not_taken
from batch_gateway.engine.plan import Plan
from batch_gateway.errors import BatchGatewayError
from batch_gateway.inputs.read_input import InputOptions, open_rows
from batch_gateway.tables.asked_rows import AskedRows
from batch_gateway.tables.field_path import FieldPath
from batch_gateway.tables.open_table import write_table
from batch_gateway.tables.table_file import check_place, format_of_table

__all__ = ["RunTable"]


class RunTable:
    """Raises CommandFailure, ConfigError and JournalError for one that could not be written.

    `taken` are the files that it must not replace.
    """

    def __init__(self, path: Path, fields: Sequence[str], *, taken: Sequence[Path]) -> None:
        for field in fields:
            FieldPath.parse(field, "--field")
        format_of_table(path, "--table")
        check_not_taken("--table", path, taken)
        check_place(path)
        self.path = path
        self._fields = fields

    def write(self, output: Path, errors: Path, plan: Plan, options: InputOptions) -> str | None:
        """What hindered it, if anything did, and the command that makes it later."""
        try:
            with open_rows(plan.origin or plan.source, options) as rows:
                write_table(
                    output,
                    self.path,
                    input=AskedRows(rows, options),
                    errors=errors if errors.exists() else None,
                    fields=self._fields,
                )
        except BatchGatewayError as error:
            return f"{error}. The results are whole: batch-gateway table {output} makes it of them"
        return None
