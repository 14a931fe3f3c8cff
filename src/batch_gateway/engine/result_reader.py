"""Telling the request of each line in a result file, and refusing lines of another origin."""

from __future__ import annotations

import re
from typing import Never

import msgspec

from batch_gateway.engine.answered_lines import AnsweredLines, Changed
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_line import (
    RESULT_START,
    ResultLine,
    Role,
    begins_as_result,
    can_begin_result,
    how_saved,
    is_success,
    parse_result,
)
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import LineId, parse_line_id

__all__ = ["AnyResultReader", "ResultReader"]

_MOST_DIGITS = 18
# What a file system hands out at a time: more zeros than that are somebody's.
_PAGE_BYTES = 4096
# What is lost is lost in sectors, and between them may be what is left of later lines. Other
# formats have zeros in small numbers.
_LOST_SECTORS = re.compile(rb"(?:\0{512,}[^\0]+)*\0*")


class AnyResultReader:
    """Knows results of whatever input in the file `name`: each counts as its first request."""

    def __init__(self, name: str) -> None:
        self._name = name

    def index_of(self, line: bytes, number: int) -> int | None:
        """The request that line `number` is the result of; None for a damaged or blank line.

        A damaged line that does not begin like ours (see `begins`) is damage only in a file that
        is known to be ours. Raises JournalError for a line of another origin.
        """
        if not line or line.isspace():
            return None
        if b"\0" in line:
            result, damaged = None, self.begins(line) or self._has_lost_a_page(line)
        else:
            result = self._parsed(line, number)
            damaged = result is None and self.begins(line)
        if damaged:
            return None
        found = None if result is None else parse_line_id(result.id)
        if result is None or found is None:
            self.refuse(line, number)
        return self._index(found, result, number)

    def _parsed(self, line: bytes, number: int) -> ResultLine | None:
        try:
            return parse_result(line)
        except msgspec.ValidationError:
            self.refuse(line, number)

    def _index(self, found: LineId, result: ResultLine, number: int) -> int:
        return 0

    def _has_lost_a_page(self, line: bytes) -> bool:
        """Whether zeros stand where a power cut left the rest of one of our lines unwritten."""
        written = line.partition(b"\0")[0]
        return self.may_begin(written) and bool(_LOST_SECTORS.fullmatch(line, len(written)))

    def begins(self, line: bytes) -> bool:
        """Whether `line` begins as only a result does."""
        return begins_as_result(line)

    def may_begin(self, written: bytes) -> bool:
        """Whether a line of which only this was written can be a result."""
        return can_begin_result(written)

    def is_all_that_was_written(self, content: bytes) -> bool:
        """Whether a whole file without a line break is what a crash left of a first result."""
        written, _, rest = content.partition(b"\0")
        only_zeros = not written and len(content) >= _PAGE_BYTES
        is_ours = self.begins(written) or self.may_begin(written)
        return is_ours and not rest.strip(b"\0") and not only_zeros

    def refuse(self, line: bytes, number: int) -> Never:
        """Raises JournalError for a line that keeps us from touching the file."""
        saved = how_saved(line) if number == 1 else None
        if saved is not None:
            how, command = saved
            problem = f"holds results that were saved {how}"
            cure = f"save them as plain UTF-8, as `{command}` does"
        elif not line.strip(b"\0"):
            problem = f"line {number} is nothing but zeros"
            cure = "delete it if a power cut left it"
        else:
            problem = f"line {number} is not a result of this program"
            cure = "take it out if it was put there by mistake" if number > 1 else ""
        raise JournalError(
            f"{self._name}: {problem}, so the file is left alone; {cure and f'{cure}, or '}"
            "choose another output"
        )


class ResultReader(AnyResultReader):
    """Knows the results of one input alone, in the file that is for those of `role`.

    They may have been made when it had fewer lines, or others; see `AnsweredLines`.
    """

    def __init__(self, name: str, plan: Plan, role: Role) -> None:
        super().__init__(name)
        self._input_name = plan.name
        self._fingerprint = plan.fingerprint
        self._requests = plan.requests
        self._role = role
        self._answered = AnsweredLines(plan)
        own = RESULT_START + f"{plan.fingerprint}_".encode()
        # How lines may begin: with this input, or an earlier one of which some line was here.
        self._expected = (own,)
        rest = rb'([0-9]{1,%d})(?:_[0-9a-f]{8})?"' % _MOST_DIGITS
        self._match_id = re.compile(re.escape(own) + rest).match

    def index_of(self, line: bytes, number: int) -> int | None:
        index = self._index_in_id(line)
        if index is None:
            return super().index_of(line, number)
        if self._role is Role.SUCCESS and index in self._requests and is_success(line):
            return index
        result = self._parsed(line, number)
        return None if result is None else self._checked(index, result.role, number)

    def _index_in_id(self, line: bytes) -> int | None:
        """Without decoding the line, which may be megabytes; None when it is not written by us."""
        found = self._match_id(line)
        return None if found is None else int(found[1])

    def begins(self, line: bytes) -> bool:
        return line.startswith(self._expected)

    def may_begin(self, written: bytes) -> bool:
        return any(expected.startswith(written) for expected in self._expected)

    def _index(self, found: LineId, result: ResultLine, number: int) -> int:
        index = found.request
        if found.fingerprint != self._fingerprint:
            index = self._index_in_this_input(found, result, number)
        return self._checked(index, result.role, number)

    def _index_in_this_input(self, found: LineId, result: ResultLine, number: int) -> int:
        if found.content is None:
            raise self._other_input()
        index = self._answered.find(found, result.custom_id)
        if isinstance(index, Changed):
            raise self._other_input(f": line {number} {index.text}")
        earlier = RESULT_START + f"{found.fingerprint}_".encode()
        if earlier not in self._expected:
            self._expected = (*self._expected, earlier)
        return index

    def _checked(self, index: int, role: Role | None, number: int) -> int:
        if role is not self._role and role is not None:
            raise self._other_role(role, number)
        if index in self._requests:
            return index
        raise JournalError(
            f"{self._name}: line {number} is for request {index + 1:,}, and "
            f"{self._input_name} {self._extent()}; use --fresh to start over"
        )

    def _extent(self) -> str:
        first, total = self._requests.start, len(self._requests)
        if not first:
            return f"has only {total:,}"
        return f"is run from request {first + 1:,} to {first + total:,}"

    def _other_role(self, role: Role, number: int) -> JournalError:
        was, here = ("failed", "results") if role is Role.FAILURE else ("succeeded", "failed lines")
        return JournalError(
            f"{self._name}: line {number} is of a request that {was}, and this is the file for the "
            f"{here}; give the two files the right way round, or take such lines out of it"
        )

    def _other_input(self, why: str = "") -> JournalError:
        return JournalError(
            f"{self._name}: holds results of another input than {self._input_name} as it is now"
            f"{why}. Put the old input back to go on, choose another output, or use --fresh to"
            " start over"
        )

    def refuse(self, line: bytes, number: int) -> Never:
        of_other_input = line.startswith(RESULT_START) and super().may_begin(line)
        if not self.begins(line) and (super().begins(line) or of_other_input):
            raise self._other_input()
        super().refuse(line, number)
