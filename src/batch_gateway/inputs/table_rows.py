"""Rows of what a program has: tables of pandas, polars and pyarrow, mappings, and prompts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import msgspec

from batch_gateway.engine.problems import Fault
from batch_gateway.errors import ConfigError
from batch_gateway.inputs.data_row import BadRow, Row
from batch_gateway.inputs.file_format import is_of_batch
from batch_gateway.inputs.read_rows import PROMPT

__all__ = ["TableRows"]


class TableRows:
    """The rows of a table, or of any iterable of mappings or prompts.

    Nothing is imported for it: whoever has a table has its library.

    Attributes:
        name: what to call it in messages.
        columns: their names in order; None where every row has its own.
        typed: whether its columns may have more than text.
    """

    name = "the data"
    typed = True

    def __init__(self, data: Any) -> None:
        """Raises ConfigError for what has no rows."""
        if isinstance(data, str | bytes | Mapping) or not (_is_table(data) or _iterates(data)):
            raise ConfigError(
                "source",
                "must be a path, a table of pandas, polars or pyarrow, or an iterable of mappings"
                f" or prompts, not {data!r:.80}",
            )
        self._data = data
        self.columns = tuple(map(str, _columns(data))) if _is_table(data) else None

    def __iter__(self) -> Iterator[Row | BadRow]:
        for number, values in enumerate(self._values(), 1):
            if isinstance(values, Mapping):
                yield _row(number, cast("Mapping[str, Any]", values))
            elif isinstance(values, str):
                yield Row(number, number, {PROMPT: values})
            else:
                fault = Fault(f"is neither a mapping nor a prompt, but {values!r:.80}")
                yield BadRow(number, number, (fault,))

    def _values(self) -> Iterable[object]:
        data = self._data
        if self.columns is None:
            return cast("Iterable[object]", data)
        if hasattr(data, "iter_rows"):  # polars
            return data.iter_rows(named=True)
        if hasattr(data, "to_batches"):  # pyarrow
            return (values for batch in data.to_batches() for values in batch.to_pylist())
        return _pandas_rows(data, self.columns)


def _row(number: int, values: Mapping[str, Any]) -> Row:
    """A line of a batch file as a program has it is one as text, too."""
    if not (isinstance(values.get("body"), Mapping) and is_of_batch(values.keys())):
        return Row(number, number, values)
    try:
        return Row(number, number, values, msgspec.json.encode(values))
    except (TypeError, ValueError):
        return Row(number, number, values)


def _is_table(data: Any) -> bool:
    return hasattr(data, "iter_rows") or hasattr(data, "to_batches") or hasattr(data, "itertuples")


def _iterates(data: object) -> bool:
    return isinstance(data, Iterable)


def _columns(data: Any) -> Iterable[object]:
    return data.column_names if hasattr(data, "to_batches") else data.columns


def _pandas_rows(data: Any, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for values in data.itertuples(index=False, name=None):
        yield dict(zip(columns, map(_plain, values), strict=True))


def _plain(value: Any) -> Any:
    """A value of numpy or pandas as Python has it; None for what is missing."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value
