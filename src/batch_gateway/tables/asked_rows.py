"""What was asked, row by row, in the order in which a table has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import msgspec

from batch_gateway.errors import InputError
from batch_gateway.inputs.data_row import BadRow, Row, Rows

__all__ = ["AskedRow", "AskedRows"]

# Of chat, completions, embeddings and responses, and vLLM's score and rerank.
_ASKED: Final = ("messages", "prompt", "input", "text_1", "query")
_OF_A_BATCH: Final = frozenset({"custom_id", "url", "body"})


class AskedRow(msgspec.Struct, frozen=True):
    """One row: under which custom_id it was sent, and its columns."""

    custom_id: str
    values: Mapping[str, Any]


class AskedRows:
    """All rows of a file, which are read twice; of a batch file the model and what is asked.

    Attributes:
        name: what to call the file in messages.
        columns: their names in order; none where rows have columns of their own.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.name = rows.name
        self.columns = rows.columns or ()

    def __iter__(self) -> Iterator[AskedRow]:
        """From the first row on. Raises InputError."""
        for row in self._rows:
            if isinstance(row, BadRow):
                why = "; ".join(fault.text for fault in row.faults)
                raise InputError(f"{self.name}: line {row.line} {why}")
            yield _asked(row)


def _asked(row: Row) -> AskedRow:
    values, body = row.values, row.values.get("body")
    custom_id = values.get("custom_id") or f"request-{row.number}"
    if isinstance(body, dict) and values.keys() >= _OF_A_BATCH:
        body = cast("dict[str, Any]", body)
        values = {"model": body.get("model"), "prompt": _asked_text(body)}
    return AskedRow(str(custom_id), values)


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
