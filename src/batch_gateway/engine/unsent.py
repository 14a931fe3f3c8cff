"""The end of requests that nobody will send any more: their batch was over before they were."""

from __future__ import annotations

import asyncio
from enum import StrEnum

from batch_gateway.engine.journal import Journal
from batch_gateway.engine.plan import Plan
from batch_gateway.wire.lines import error_line

__all__ = ["Unsent", "record_unsent"]

_LINES_BETWEEN_BREATHS = 256


class Unsent(StrEnum):
    """Why; the value is the `error.code` of such a request's result."""

    CANCELLED = "batch_cancelled"
    """Somebody asked for the end of the batch. The code is llm-d's."""
    EXPIRED = "batch_expired"
    """The completion window is over. Code and message are those of OpenAI's Batch API."""
    FAILED = "batch_failed"
    """The batch cannot go on. The code is ours."""


_MESSAGES = {
    Unsent.CANCELLED: "This request was cancelled before it was executed.",
    Unsent.EXPIRED: "This request could not be executed before the completion window expired.",
    Unsent.FAILED: "This request was not executed since its batch failed: see the batch's errors.",
}


async def record_unsent(plan: Plan, journal: Journal, why: Unsent) -> int:
    """Record an error for each request that has no result; how many those were.

    Returns once all of them are safe. For a batch that has ended for good, since no later run
    sends them; nothing may be running with the journal. After a crash the same call with a journal
    that was opened again goes on, and repeats none. Raises InputError and JournalError.
    """
    recorded = 0
    for index in plan.order("file", journal.has_result):
        result_id, line = plan.request(index)
        await journal.append(
            index, error_line(result_id, line.custom_id, why, _MESSAGES[why]), ok=False
        )
        recorded += 1
        if recorded % _LINES_BETWEEN_BREATHS == 0:
            await asyncio.sleep(0)
    await journal.flush()
    return recorded
