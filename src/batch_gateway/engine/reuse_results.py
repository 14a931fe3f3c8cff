"""Taking answers from earlier results, of whatever input, for lines that are the same."""

from __future__ import annotations

import asyncio
import os

import msgspec

from batch_gateway.engine.answered_lines import AnsweredLines
from batch_gateway.engine.journal import Journal
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_line import ResultLine, Role, parse_result
from batch_gateway.engine.source import FileSource
from batch_gateway.errors import JournalError
from batch_gateway.wire.lines import LineId, parse_line_id

__all__ = ["reuse_results"]


async def reuse_results(plan: Plan, journal: Journal, path: str | os.PathLike[str]) -> int:
    """Record the successes in the file at `path` for requests without a result; how many.

    They are of the same custom_id and the same content. Raises InputError for a file that cannot
    be read, and JournalError for one that holds no results, or once nothing can be recorded.
    """
    source = FileSource.open(path)
    answered = AnsweredLines(plan)
    taken = number = 0
    try:
        for _, block in source.blocks():
            for line in block.split(b"\n"):
                number += 1
                if line.strip() and (answer := _answer(line, source.name, number)) is not None:
                    index = _request_of(*answer, plan, answered)
                    if index is not None and not journal.has_result(index):
                        await journal.append(index, line.rstrip(b"\r") + b"\n", ok=True)
                        taken += 1
            number -= 1
            await asyncio.sleep(0)
    finally:
        source.close()
    return taken


def _answer(line: bytes, name: str, number: int) -> tuple[LineId, str] | None:
    """What an answer is of, and its custom_id.

    None for a failure, and for a line that is damaged, as a crash leaves it.
    """
    try:
        result = parse_result(line)
    except msgspec.ValidationError:
        result = ResultLine("", "")
    if result is None:
        return None
    found = parse_line_id(result.id)
    if found is None:
        raise JournalError(f"{name}: line {number} is not a result of this program")
    return (found, result.custom_id) if result.role is Role.SUCCESS else None


def _request_of(found: LineId, custom_id: str, plan: Plan, answered: AnsweredLines) -> int | None:
    if found.fingerprint == plan.fingerprint:
        return found.request if found.request in plan.requests else None
    if found.content is None:
        return None
    index = answered.find(found, custom_id)
    return index if isinstance(index, int) else None
