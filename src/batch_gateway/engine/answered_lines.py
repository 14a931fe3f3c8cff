"""The requests of results of an earlier input: by custom_id, if the line still says the same."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple
from zlib import crc32

import msgspec

from batch_gateway.engine.plan import Plan
from batch_gateway.wire.lines import LineId

__all__ = ["AnsweredLines", "Changed"]


class Changed(NamedTuple):
    """Why a result is of no request of this input, in words that follow its place."""

    text: str


class _IdOnly(msgspec.Struct):
    custom_id: str = ""


_decode_id = msgspec.json.Decoder(_IdOnly).decode


class AnsweredLines:
    """Finds the request of a result whose id names an earlier input.

    Lines may have been added, moved and taken away since; one that has a result must be as it was.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def find(self, found: LineId, custom_id: str) -> int | Changed:
        """Its request, or what became of that. Raises InputError."""
        plan, index = self._plan, None
        for index, line in self._candidates(found.request, custom_id):
            if crc32(line) == found.content:
                return index
        if index is None:
            return Changed(f'is the result of "{custom_id:.80}", which is not in it')
        where = f'of "{custom_id:.80}", line {plan.line_number(index)}, as it was before'
        return Changed(f"is the result {where}{self._made_otherwise(found.fingerprint)}")

    def _made_otherwise(self, fingerprint: str) -> str:
        """What made its line of other data and is not what it was."""
        made = self._plan.made_with
        marks = "".join(made.values())
        if not marks or len(fingerprint) != len(self._plan.fingerprint):
            return ""
        was = fingerprint[-len(marks) :]
        size = len(marks) // len(made)
        changed = [
            name for place, name in enumerate(made) if was[place * size :][:size] != made[name]
        ]
        return f": the {' and the '.join(changed)} changed since" if changed else ""

    @cached_property
    def _in_order(self) -> tuple[array[int], array[int]]:
        """The hashes of all custom_ids, sorted, and the requests that have them."""
        plan = self._plan
        pairs = sorted((hash(_custom_id(plan.read(index))), index) for index in plan.requests)
        return array("q", (number for number, _ in pairs)), array("Q", (one for _, one in pairs))

    def _candidates(self, index: int, custom_id: str) -> Iterator[tuple[int, bytes]]:
        """The requests with this custom_id and their lines, first the one at the same place."""
        for one in self._worth_reading(index, custom_id):
            line = self._plan.read(one)
            if _custom_id(line) == custom_id:
                yield one, line

    def _worth_reading(self, index: int, custom_id: str) -> Iterator[int]:
        if index in self._plan.requests:
            yield index
        hashes, indexes = self._in_order
        number = hash(custom_id)
        yield from indexes[bisect_left(hashes, number) : bisect_right(hashes, number)]


def _custom_id(line: bytes) -> str:
    try:
        return _decode_id(line).custom_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # one that cannot be sent
