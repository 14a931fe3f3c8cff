"""The table that `run --table` asks for: looked at before anything is sent, written at the end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from batch_gateway.cli.failure import CommandFailure
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
        if any(os.path.realpath(path) == os.path.realpath(other) for other in taken):
            raise CommandFailure(f"--table: {path} is the input or a result file; name another")
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
