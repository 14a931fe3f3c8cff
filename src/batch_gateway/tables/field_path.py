"""`--field`: a path into an answer that is JSON, and the value there. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self, cast

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.wire.answer_json import NO_JSON, json_in_text

__all__ = ["MISSING", "FieldPath", "answer_value"]

MISSING: Any = msgspec.UNSET
"""What is at a path that leads nowhere; a `null` that is there is None."""

# name, "name in quotes", 3, or [3] and ["name"] behind what has them.
_STEP = re.compile(
    r'\.?(?:\[(?:(-?\d{1,9})|"((?:[^"\\]|\\.)*)")\]|"((?:[^"\\]|\\.)*)"|([^.\[\]"]+))'
)
_ITSELF = "answer"


class FieldPath(msgspec.Struct, frozen=True):
    """One column that is picked from answers.

    Attributes:
        name: of the column.
        steps: names of objects' fields and places in lists, from the outside in.
    """

    name: str
    steps: tuple[str | int, ...]

    @classmethod
    def parse(cls, text: str, place: str = "field") -> Self:
        """From `name=path`, or a path that is the name too. Raises ConfigError with `place`.

        A path is names with dots between them, places in lists from 0 (`items.0`, `items[0]`,
        `items[-1]`), and names in quotes where they have dots themselves (`"a.b".c`). It may begin
        with `answer`, which is the whole of it.
        """
        before, equals, after = text.partition("=")
        # A sign of equality in quotes belongs to the path.
        name, path = (before.strip(), after) if equals and '"' not in before else (text, text)
        steps = _steps(path.strip())
        if not name or not steps:
            raise ConfigError(
                place, f"{text!r:.80} is no path into an answer: write score, answer.items[0].name "
                "or name=path"
            )  # fmt: skip
        return cls(name.strip(), steps)

    def pick(self, answer: Any) -> Any:
        """The value there, `MISSING` where there is none."""
        found = _walk(answer, self.steps)
        if found is MISSING and self.steps[0] == _ITSELF:
            return _walk(answer, self.steps[1:])
        return found


def answer_value(text: str | None) -> Any:
    """The JSON that `text` is, `MISSING` where it is none."""
    if not text:
        return MISSING
    try:
        return json_in_text(text)
    except NO_JSON:
        return MISSING


def _steps(path: str) -> tuple[str | int, ...]:
    steps: list[str | int] = []
    end = 0
    while end < len(path):
        found = _STEP.match(path, end)
        if found is None or (found.group().startswith(".") and not end):
            return ()
        place, *names = found.groups()
        name = next((one for one in names if one is not None), "")
        steps.append(re.sub(r"\\(.)", r"\1", name) if place is None else int(place))
        end = found.end()
    return tuple(steps)


def _walk(value: Any, steps: Sequence[str | int]) -> Any:
    for step in steps:
        if isinstance(value, dict):
            value = cast("dict[str, Any]", value).get(str(step), MISSING)
        elif isinstance(value, list):
            value = _item(cast("list[Any]", value), step)
        else:
            return MISSING
    return value


def _item(items: list[Any], step: str | int) -> Any:
    place = int(step) if isinstance(step, int) or re.fullmatch(r"-?\d{1,9}", step) else None
    if place is None or not -len(items) <= place < len(items):
        return MISSING
    return items[place]
