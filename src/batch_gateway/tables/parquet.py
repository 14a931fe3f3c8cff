"""Tables for pyarrow and those who speak Arrow, and as Parquet files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from typing import IO, Any

from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for
from batch_gateway.tables.answer_row import Cells
from batch_gateway.tables.columns import Column, Kind, as_kind

__all__ = ["MARK", "loaded_arrow", "record_batches", "write_parquet"]

_ROWS_AT_A_TIME = 1_000
_ROW_GROUP_BYTES = 32 * 1024 * 1024
MARK = {b"batch_gateway": b"answers"}
"""Of the schema; tells our files from those of others."""


def record_batches(columns: Sequence[Column], rows: Iterable[Cells]) -> Any:
    """The rows as a `pyarrow.RecordBatchReader`, read when they are asked for.

    Raises ConfigError without pyarrow.
    """
    arrow = loaded_arrow()
    schema = arrow.schema([(one.name, _type(arrow, one.kind)) for one in columns], metadata=MARK)
    return arrow.RecordBatchReader.from_batches(schema, _batches(arrow, schema, columns, rows))


def write_parquet(stream: IO[bytes], columns: Sequence[Column], rows: Iterable[Cells]) -> None:
    """Write a Parquet file; row groups are of some 32 MiB. Raises ConfigError without pyarrow."""
    arrow = loaded_arrow()
    reader = record_batches(columns, rows)
    with import_module("pyarrow.parquet").ParquetWriter(stream, reader.schema) as writer:
        group: list[Any] = []
        size = 0
        for batch in reader:
            group.append(batch)
            size += batch.nbytes
            if size >= _ROW_GROUP_BYTES:
                writer.write_table(arrow.Table.from_batches(group))
                group, size = [], 0
        if group:
            writer.write_table(arrow.Table.from_batches(group))


def _batches(
    arrow: Any, schema: Any, columns: Sequence[Column], rows: Iterable[Cells]
) -> Iterator[Any]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_AT_A_TIME)):
        arrays = [
            arrow.array([_clean(as_kind(row[one.name], one.kind)) for row in some], field.type)
            for one, field in zip(columns, schema, strict=True)
        ]
        yield arrow.record_batch(arrays, schema=schema)


def _clean(value: Any) -> Any:
    """Without half a surrogate pair, which Arrow does not take."""
    if isinstance(value, str) and not value.isascii():
        return value.encode(errors="replace").decode()
    return value


def _type(arrow: Any, kind: Kind) -> Any:
    number = arrow.float64()
    return {
        Kind.NOTHING: arrow.string(),
        Kind.TEXT: arrow.string(),
        Kind.JSON: arrow.string(),
        Kind.WHOLE: arrow.int64(),
        Kind.NUMBER: number,
        Kind.TRUTH: arrow.bool_(),
        Kind.VECTOR: arrow.list_(number),
        Kind.VECTORS: arrow.list_(arrow.list_(number)),
        Kind.TEXTS: arrow.list_(arrow.string()),
    }[kind]


def loaded_arrow() -> Any:
    """The module `pyarrow`, an extra that is slow to load. Raises ConfigError where it is not."""
    try:
        return import_module("pyarrow")
    except ImportError as error:
        raise ConfigError(
            "table",
            f"Parquet needs pyarrow: install it with `{command_for('tables')}`, or write .csv or"
            " .jsonl",
        ) from error
