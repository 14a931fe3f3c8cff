"""A template such as 'Classify: {review}': text with the names of columns in braces."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.inputs.near_name import did_you_mean
from batch_gateway.inputs.row_fault import FaultyRowError
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["Template", "as_text", "column_of"]

_PIECE: Final = rare_pattern(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MISSING: Final = object()


class Template(msgspec.Struct, frozen=True):
    """Text and columns in turn; made by `parse`.

    Attributes:
        text: as it was written.
        pieces: text, a column, text, … and text at the end.
    """

    text: str
    pieces: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """`{column}` is a column, `{{` and `}}` are braces. Raises ConfigError."""
        pieces = [""]
        end = 0
        for found in _PIECE.finditer(text):
            pieces[-1] += text[end : found.start()]
            end = found.end()
            what = found.group()
            if what in ("{{", "}}"):
                pieces[-1] += what[0]
            elif found.group(1) is None or not found.group(1).strip():
                raise _lone_brace(text, found.start(), what)
            else:
                pieces += [found.group(1).strip(), ""]
        pieces[-1] += text[end:]
        if len(pieces) == 1:
            raise ConfigError(
                "template", "names no column, so that all rows would be alike: write {column}"
            )
        return cls(text, tuple(pieces))

    @property
    def columns(self) -> tuple[str, ...]:
        """Those that it names, in order, each once."""
        return tuple(dict.fromkeys(self.pieces[1::2]))

    def check(self, columns: Iterable[str], name: str) -> None:
        """Raises ConfigError for one that names a column which is not among those of `name`."""
        known = list(columns)
        for column in self.columns:
            if column not in known and column.partition(".")[0] not in known:
                raise ConfigError(
                    "template",
                    f"names the column {column!r:.80}, and {name} has none of that name"
                    f"{did_you_mean(column, known)}; it has {', '.join(known)}"
                    "; a brace that is just a brace is written twice, {{",
                )

    def render(self, values: Mapping[str, Any]) -> str:
        """The text with what a row has in these columns. Raises FaultyRowError."""
        text = list(self.pieces)
        for place in range(1, len(text), 2):
            column = text[place]
            value = column_of(values, column)
            if value is _MISSING:
                near = did_you_mean(column, values)
                raise FaultyRowError(
                    f"has no column {column!r:.80}, which the template names{near}"
                )
            text[place] = as_text(value, column)
        return "".join(text)


def column_of(values: Mapping[str, Any], column: str) -> Any:
    """What a row has in a column, or at a path such as `meta.title`; `_MISSING` for neither."""
    if column in values or "." not in column:
        return values.get(column, _MISSING)
    found: Any = values
    for name in column.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return _MISSING
        found = cast("Mapping[str, Any]", found)[name]
    return found


def as_text(value: Any, column: str) -> str:
    """A value as it is put into a text. Raises FaultyRowError for what has no text."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # noqa: PLR0124 - not a number, which is pandas' missing
        raise FaultyRowError(f"has nothing in the column {column!r:.80}")
    if isinstance(value, bytes):
        raise FaultyRowError(f"has bytes in the column {column!r:.80}, which is not text")
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        # Dates and times, decimal numbers, and what else a table may have.
        return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _lone_brace(text: str, place: int, what: str) -> ConfigError:
    line = text.count("\n", 0, place) + 1
    column = place - text.rfind("\n", 0, place)
    where = f"character {column}" if "\n" not in text else f"line {line}, character {column}"
    return ConfigError(
        "template",
        f"has {what} at {where}, which is not the name of a column: a brace that is just a brace"
        " is written twice, {{ or }}",
    )
