"""Failed lines grouped by what is the same in their messages, with examples of each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from batch_gateway.engine.figures import Cause, Example
from batch_gateway.engine.outcome_words import CATEGORIES

__all__ = ["CauseGroup", "group_causes", "kind_of_message"]

_EXAMPLES = 3
# What differs between messages of one kind: numbers, and ids made of digits and letters.
_VARYING = re.compile(r"\b(?=[\w-]*\d)[\w-]+(?:\.\d+)*\b")


@dataclass(slots=True)
class CauseGroup:
    """Failures of one kind.

    Attributes:
        count: lines of this run.
        causes: the first few that differ.
    """

    category: str
    status_code: int | None
    count: int = 0
    causes: list[Cause] = field(default_factory=list[Cause])

    @property
    def words(self) -> str:
        return CATEGORIES[self.category]

    @property
    def message(self) -> str:
        return self.causes[0].message

    def examples(self) -> Iterator[tuple[Example, str, int]]:
        """Up to three: (line, message, how many more there are that are not shown)."""
        spare = _EXAMPLES - len(self.causes)
        for cause in self.causes:
            first = Example(cause.line_number, cause.custom_id)
            shown = cause.examples[: 1 + spare] or (first,)
            spare -= len(shown) - 1
            for number, example in enumerate(shown, 1):
                more = cause.count - number if number == len(shown) else 0
                yield example, cause.message, more


def group_causes(causes: Iterable[Cause]) -> list[CauseGroup]:
    """The most frequent first."""
    groups: dict[tuple[str, int | None, str], CauseGroup] = {}
    for cause in causes:
        kind = (cause.category, cause.status_code, kind_of_message(cause.message))
        group = groups.setdefault(kind, CauseGroup(cause.category, cause.status_code))
        group.count += cause.count
        if len(group.causes) < _EXAMPLES:
            group.causes.append(cause)
    return sorted(groups.values(), key=lambda group: -group.count)


def kind_of_message(message: str) -> str:
    """What is the same in all messages of its kind."""
    return _VARYING.sub("#", message)
