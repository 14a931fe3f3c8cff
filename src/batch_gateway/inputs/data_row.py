"""A row of somebody's data: its columns, and the line where it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import msgspec

from batch_gateway.engine.problems import Fault

__all__ = ["BadRow", "Row", "Rows"]


class Row(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        line: the number of its first line in the file, from 1; of a row where there are no lines.
        number: which row it is, from 1; bad rows count.
        values: by column: text from CSV and text files, else what JSON or Parquet has there.
        text: the line itself, where it is JSON.
    """

    line: int
    number: int
    values: Mapping[str, Any]
    text: bytes = b""


class BadRow(msgspec.Struct, frozen=True):
    """A row that cannot be read; `faults` say why."""

    line: int
    number: int
    faults: tuple[Fault, ...]


class Rows(Protocol):
    """All rows of a source, which may be read more than once.

    Attributes:
        name: what to call the source in messages.
        columns: their names in order; None where every row has its own.
        typed: whether there may be more than text in them.
    """

    @property
    def name(self) -> str: ...

    @property
    def columns(self) -> tuple[str, ...] | None: ...

    @property
    def typed(self) -> bool: ...

    def __iter__(self) -> Iterator[Row | BadRow]:
        """From the first row on. Raises InputError for what is wrong with all of it."""
        ...
