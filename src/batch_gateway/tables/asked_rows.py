"""What was asked, row by row, in the order in which a table has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from batch_gateway.inputs.data_row import BadRow, Row, Rows
from batch_gateway.inputs.read_input import InputOptions, chosen
from batch_gateway.inputs.request_line import custom_id_of
from batch_gateway.inputs.row_fault import FaultyRowError

__all__ = ["AskedRow", "AskedRows"]

# Of chat, completions, embeddings and responses, and vLLM's score and rerank.
_ASKED: Final = ("messages", "prompt", "input", "text_1", "query")
_OF_A_BATCH: Final = frozenset({"custom_id", "url", "body"})


class AskedRow(msgspec.Struct, frozen=True):
    """One row.

    Attributes:
        custom_id: under which it was sent; "" if that cannot be read.
        values: its columns.
        number: its place, from 0.
        fault: why it cannot have been sent, and which line it is; "" for a good one.
    """

    custom_id: str
    values: Mapping[str, Any]
    number: int = 0
    fault: str = ""


class AskedRows:
    """All rows of a file, which are read twice; of a batch file the model and what is asked.

    Attributes:
        name: what to call the file in messages.
        columns: their names in order; none where rows have columns of their own.
    """

    def __init__(self, rows: Rows, options: InputOptions) -> None:
        self._rows, self._options = rows, options
        self.name = rows.name
        self.columns = rows.columns or ()

    def __iter__(self) -> Iterator[AskedRow]:
        """From the first row on. Raises InputError where all of it is wrong."""
        for row in chosen(self._rows, self._options):
            place = f"{self.name}: line {row.line}"
            if isinstance(row, BadRow):
                fault = f"{place} {'; '.join(fault.text for fault in row.faults)}"
                yield AskedRow("", {}, row.number - 1, fault)
                continue
            try:
                custom_id, fault = custom_id_of(row, self._options.recipe.id_column), ""
            except FaultyRowError as error:
                custom_id, fault = "", f"{place} {error}"
            yield AskedRow(custom_id, _columns(row), row.number - 1, fault)


def _columns(row: Row) -> Mapping[str, Any]:
    body = row.values.get("body")
    if not isinstance(body, dict) or not row.values.keys() >= _OF_A_BATCH:
        return row.values
    asked = cast("dict[str, Any]", body)
    return {"model": asked.get("model"), "prompt": _asked_text(asked)}


def _asked_text(body: Mapping[str, Any]) -> Any:
    """What a request asks: its last message, its prompt or its input; JSON where it is no text."""
    asked = next((body[name] for name in _ASKED if body.get(name) is not None), None)
    content = _field(_list(asked)[-1], "content") if _list(asked) else None
    if content is None:
        return cast("Any", asked)
    texts = (_field(part, "text") for part in _list(content))
    return "\n".join(text for text in texts if isinstance(text, str)) or content


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _field(value: Any, name: str) -> Any:
    return cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
