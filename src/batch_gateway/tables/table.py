"""A table of answers: one row for each request, in the input's order, the input's columns kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Self

import msgspec

from batch_gateway.engine.source import Source
from batch_gateway.errors import InputError
from batch_gateway.tables.answer_row import (
    ALWAYS,
    SOMETIMES,
    UNFIT,
    Cells,
    decode_result,
    read_cells,
)
from batch_gateway.tables.asked_rows import AskedRow, AskedRows
from batch_gateway.tables.columns import Column, Kind, joint_kind, kind_of
from batch_gateway.tables.field_path import MISSING, FieldPath, answer_value
from batch_gateway.tables.result_index import ResultIndex
from batch_gateway.wire.json_schema import JSONSchema

__all__ = ["ID", "Table", "TableCounts"]

ID = "custom_id"

_NOT_YET: Cells = {"error": "no result yet", "error_category": "NOT_SENT"}


class TableCounts(msgspec.Struct):
    """What a table came to.

    Attributes:
        rows: how many it has.
        answered: rows with an answer that is what it should be.
        failed: rows whose request failed.
        unfit: rows with an answer that is not what the schema says.
        left: rows that have no result yet.
        guarded: texts that got an apostrophe, so that no spreadsheet takes them for formulas.
        without_field: for each column that was picked, in how many answers it is not.
    """

    rows: int = 0
    answered: int = 0
    failed: int = 0
    unfit: int = 0
    left: int = 0
    guarded: int = 0
    without_field: Counter[str] = msgspec.field(default_factory=Counter[str])


class Table:
    """The rows, and what must be known of all of them before the first is written.

    Results are read twice, and so is the input; nothing is kept of them but where results stand.

    Args:
        sources: files of results, those of failures first.
        asked: what was asked; without it there are rows for results alone.
        fields: what to pick from answers that are JSON.
        schema: what those answers have to be.

    Raises InputError for files that are not what they should be.

    Attributes:
        columns: `custom_id`, those of the input, those of answers, and the fields.
        counts: of the rows that were taken.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        asked: AskedRows | None = None,
        fields: Sequence[FieldPath] = (),
        schema: JSONSchema | None = None,
    ) -> None:
        self.counts = TableCounts()
        self._asked, self._fields, self._schema = asked, fields, schema
        self._field_kinds = {field.name: Kind.NOTHING for field in fields}
        self._sometimes: set[str] = set()
        self._index = ResultIndex(sources, self._look)
        try:
            of_input = _kinds_of(asked)
        except BaseException:
            self.close()
            raise
        always = (one.name for one in ALWAYS)
        sometimes = (one.name for one in SOMETIMES)
        self._names = _free_names(always, of_input.keys() | {ID})
        taken = of_input.keys() | {ID, *self._names.values()}
        self._field_names = _free_names(self._field_kinds, taken)
        self._names |= _free_names(sometimes, taken | set(self._field_names.values()))
        self.columns = [
            Column(ID, Kind.TEXT),
            *(Column(name, kind) for name, kind in of_input.items() if name != ID),
            *(
                Column(self._names[one.name], one.kind)
                for one in (*ALWAYS, *SOMETIMES)
                if one in ALWAYS or one.name in self._sometimes
            ),
            *(Column(self._field_names[name], kind) for name, kind in self._field_kinds.items()),
        ]

    @property
    def possible_columns(self) -> set[str]:
        """Those that a table of this input and these fields may have, whatever the answers."""
        return {*(one.name for one in self.columns), *self._names.values()}

    def _look(self, response: object, error: object) -> None:
        cells = read_cells(response, error)
        self._sometimes.update(cells)
        for name, value in self._picked(cells):
            self._field_kinds[name] = joint_kind(self._field_kinds[name], kind_of(value))

    def _picked(self, cells: Cells) -> Iterator[tuple[str, object]]:
        if not self._fields or "error" in cells:
            return
        answer = answer_value(cells.get("text"))
        for field in self._fields:
            value = field.pick(answer)
            if value is not MISSING:
                yield field.name, value

    def __iter__(self) -> Iterator[Cells]:
        """The rows, each with all columns. Raises InputError."""
        self.counts = TableCounts()
        nothing = dict.fromkeys(column.name for column in self.columns)
        for row, cells in self._pairs():
            whole: Cells = {**nothing, **row.values, ID: row.custom_id}
            whole.update((self._field_names[name], value) for name, value in self._fields_of(cells))
            self._judge(cells)
            whole.update((self._names[name], value) for name, value in cells.items())
            yield whole

    def _pairs(self) -> Iterator[tuple[AskedRow, Cells]]:
        if self._asked is None:
            for found in self._index.all():
                _, custom_id, response, error = decode_result(self._index.read(found))
                yield AskedRow(custom_id, {}), read_cells(response, error)
            return
        used = 0
        for row in self._asked:
            found = self._index.find(row.custom_id, row.number)
            if found is None and row.fault:
                raise InputError(row.fault)
            if found is None:
                yield row, dict(_NOT_YET)
                continue
            used += 1
            _, _, response, error = decode_result(self._index.read(found))
            yield row, read_cells(response, error)
        if used < len(self._index):
            self._refuse_a_stray(self._asked)

    def _fields_of(self, cells: Cells) -> Iterator[tuple[str, object]]:
        picked = dict(self._picked(cells))
        if "error" not in cells:
            for name in self._field_kinds.keys() - picked.keys():
                self.counts.without_field[name] += 1
        yield from picked.items()

    def _judge(self, cells: Cells) -> None:
        """Count the row, and say so in it when its answer is not what the schema says."""
        counts, text = self.counts, cells.get("text")
        counts.rows += 1
        problem = None
        if self._schema is not None and "error" not in cells and text is not None:
            problem = None if not text and cells.get("tool_calls") else self._schema.problem(text)
        if problem is not None:
            counts.unfit += 1
            cells.update(error=problem, error_category=UNFIT)
        elif "error" not in cells:
            counts.answered += 1
        elif cells["error_category"] == _NOT_YET["error_category"]:
            counts.left += 1
        else:
            counts.failed += 1

    def _refuse_a_stray(self, asked: AskedRows) -> None:
        stray = self._index.first_without(row.custom_id for row in asked)
        if stray is not None:
            raise InputError(
                f"{stray[0]} has a result of {stray[1]!r:.80}, and {asked.name} has no such row:"
                " give the input that was sent"
            )

    def close(self) -> None:
        """Give back what the index takes on disk. A second call does nothing."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _kinds_of(asked: AskedRows | None) -> Mapping[str, Kind]:
    kinds: dict[str, Kind] = {}
    if asked is None:
        return kinds
    kinds.update(dict.fromkeys(asked.columns, Kind.NOTHING))
    for row in asked:
        for name, value in row.values.items():
            kinds[name] = joint_kind(kinds.get(name, Kind.NOTHING), kind_of(value))
    return kinds


def _free_names(names: Iterable[str], taken: Collection[str]) -> dict[str, str]:
    """A name for each that is not taken yet: its own, or else with `answer_` before it."""
    free: dict[str, str] = {}
    for name in names:
        other = name
        while other in taken or other in free.values():
            other = f"answer_{other}"
        free[name] = other
    return free
