"""Rows of a Parquet file, a few thousand at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO, Final

from batch_gateway.errors import InputError
from batch_gateway.extras import command_for
from batch_gateway.inputs.data_row import Row

__all__ = ["open_parquet", "parquet_rows"]

_ROWS_AT_A_TIME: Final = 1024


def open_parquet(stream: BinaryIO, name: str) -> Any:
    """pyarrow's reader of it. Raises InputError where it is none, or pyarrow is missing."""
    try:
        parquet = import_module("pyarrow.parquet")
        arrow = import_module("pyarrow")
    except ImportError as error:
        raise InputError(
            f"{name} is a Parquet file, which needs pyarrow: install it with"
            f" `{command_for('tables')}`"
        ) from error
    try:
        return parquet.ParquetFile(stream)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{name} is not a whole Parquet file: {error}") from error


def parquet_rows(file: Any, name: str) -> Iterator[Row]:
    """Its rows, whose lines are their numbers. Raises InputError for damaged data."""
    arrow = import_module("pyarrow")
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_ROWS_AT_A_TIME):
            for values in batch.to_pylist():
                number += 1
                yield Row(number, number, values)
    except (arrow.ArrowException, OSError) as error:
        raise InputError(f"{name} cannot be read behind row {number}: {error}") from error
