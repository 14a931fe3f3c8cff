"""One worker of a lane: line after line through its client, and what became of each."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from batch_gateway.client.interfaces.request import (
    InferenceClient,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.clock import Clock
from batch_gateway.engine.lane import Lane
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.results import (
    Outcome,
    failure_outcome,
    internal_error_outcome,
    success_outcome,
)
from batch_gateway.engine.signs import ALIVE, SAYS_NOTHING, Evidence, Sign, read_evidence
from batch_gateway.engine.tickets import Ended, Ticket
from batch_gateway.errors import CircuitOpenError, DeadlineExceededError, InferenceError

__all__ = [
    "NEVER",
    "Answer",
    "ClientFor",
    "HeadersFor",
    "ReportCrash",
    "Sender",
    "TellOfAnswer",
    "log_crash",
]

NEVER = float("inf")

Answer = InferenceResponse | InferenceError

ClientFor = Callable[[str], InferenceClient | None]
"""The client for a model, or None when no gateway serves it."""

HeadersFor = Callable[[InferenceClient], Mapping[str, str]]
"""The headers that a client is to send with every line, over its own."""

ReportCrash = Callable[[Exception, str], str]
"""Told of a fault of this package at a line; returns the words for the line's error."""

TellOfAnswer = Callable[[InferenceRequest, Answer, float], None]
"""Called with a request, what came of it and the seconds that it took, once for each that was not
cut off."""

_log = logging.getLogger("batch_gateway.run")


def log_crash(error: Exception, custom_id: str) -> str:
    """Note an unexpected exception in the log."""
    _log.error("%s: unexpected %s", custom_id, type(error).__name__, exc_info=error)
    return "the log has the traceback"


@dataclass(slots=True, kw_only=True)
class Sender(ABC):
    """Sends lines, wherever they come from and wherever their results go.

    Attributes:
        stats, clock: what it works with.
        deadline: monotonic seconds at which nothing is wanted any more; infinity for none.
        report_crash: is told of an unexpected exception and the custom_id of its line, and says
            where a person finds more.
        deadline_passed: a request met it.
        deadline_words: what the gateway said that asked for more time than is left.
    """

    stats: RunStats
    clock: Clock
    deadline: float = NEVER
    report_crash: ReportCrash = log_crash
    deadline_passed: bool = False
    deadline_words: str = ""

    @abstractmethod
    def request_of(self, ticket: Ticket) -> tuple[InferenceRequest, str]:
        """What to send for a line, and its custom_id. Raises InputError."""

    @abstractmethod
    def record(self, outcome: Outcome) -> Coroutine[Any, Any, None]:
        """A line has its result; waits while it must."""

    def keep(  # noqa: B027 - who writes lines may have no use for it
        self, ticket: Ticket, request: InferenceRequest, answer: Answer, seconds: float
    ) -> None:
        """What a line was answered with in so many seconds, which may not be its result yet."""

    def passed(self, lane: Lane, index: int) -> None:
        """A line went through the lane, whether or not it has its result."""
        stats = self.stats
        if stats.figures.failed > stats.most_failures:
            lane.close()

    async def work(self, lane: Lane) -> None:
        """What one worker of `lane` does: line after line, until there are none for it."""
        room = lane.room
        while (ticket := lane.take()) is not None:
            size = lane.size_of(ticket.index)
            cost, held = room.cost(size), 0
            try:
                try:
                    if not room.take(cost):
                        await room.wait(cost)
                    held = cost
                    # It may have waited for room until nothing was to be sent any more.
                    ended = None if lane.is_closed else await self._send(lane, ticket, size)
                except BaseException:
                    lane.give_up(ticket)
                    raise
                if ended is None:
                    lane.give_up(ticket)
                else:
                    for judged in lane.judge(ended):
                        await self.record(judged.outcome)
            finally:
                room.give(held)
            self.passed(lane, ticket.index)

    async def _send(self, lane: Lane, ticket: Ticket, size: int) -> Ended | None:
        """How a line of so many bytes ended; None when it did not and stays to be sent."""
        index = ticket.index
        request, custom_id = self.request_of(ticket)
        result_id = request.request_id
        time_left, began = self.stats.time_left, self.clock.monotonic()
        time_left.begin(index, began)
        try:
            try:
                response = await lane.client.generate(request)
            except InferenceError as error:
                if self._is_cut_off(error, lane):
                    return None
                self.keep(ticket, request, error, self.clock.monotonic() - began)
                outcome = failure_outcome(index, result_id, custom_id, error)
                return Ended(ticket, outcome, read_evidence(error))
            outcome = success_outcome(index, result_id, custom_id, response)
            self.keep(ticket, request, response, response.duration)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            seconds = self.clock.monotonic() - began
            return self._internal_error(ticket, request, custom_id, error, seconds)
        finally:
            time_left.end(index, size, self.clock.monotonic)
        lane.room.learn(len(response.body))
        # The cache answers whether or not the gateway does.
        return Ended(ticket, outcome, SAYS_NOTHING if response.from_cache else ALIVE)

    def _internal_error(
        self,
        ticket: Ticket,
        request: InferenceRequest,
        custom_id: str,
        error: Exception,
        seconds: float,
    ) -> Ended:
        told = self.report_crash(error, custom_id)
        outcome = internal_error_outcome(ticket.index, request.request_id, custom_id, error, told)
        wrapped = InferenceError(outcome.message, code="internal_error", cause=error)
        self.keep(ticket, request, wrapped, seconds)
        return Ended(ticket, outcome, Evidence(Sign.OWN, f"internal {type(error).__name__}"))

    def _is_cut_off(self, error: InferenceError, lane: Lane) -> bool:
        """Whether this is no result of the request: the run is over for it, not the request."""
        if isinstance(error, CircuitOpenError):
            # Its gateway was down for longer than anybody wants to wait.
            lane.halt(error.message)
            return True
        if self.deadline == NEVER:
            return False
        if isinstance(error, DeadlineExceededError):
            self.deadline_passed = True
            lane.close()
            return True
        if not error.out_of_time:
            return False
        self.deadline_passed = True
        if lane.is_too_late(asked=error.retry_after is not None):
            # Whatever is sent now can only be answered in the same way.
            self.deadline_words = error.message
            lane.close()
        return True
