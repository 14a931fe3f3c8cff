"""The second pass: lines through clients, a bounded number at a time, results to the journal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from batch_gateway.client.interfaces.request import InferenceClient, InferenceRequest
from batch_gateway.clock import Clock
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET, ByteBudget
from batch_gateway.engine.gate import Gate
from batch_gateway.engine.journal import Journal
from batch_gateway.engine.lane import Lane, lines_for
from batch_gateway.engine.plan import Order, Plan
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.results import (
    Outcome,
    failure_outcome,
    internal_error_outcome,
    success_outcome,
    unknown_model_outcome,
)
from batch_gateway.engine.signs import ALIVE, SAYS_NOTHING, Evidence, Sign, read_evidence
from batch_gateway.engine.tickets import Ended, Ticket
from batch_gateway.errors import CircuitOpenError, DeadlineExceededError, InferenceError

__all__ = ["ClientFor", "Executor", "ReportCrash", "log_crash"]

ReportCrash = Callable[[Exception, str], str]

_log = logging.getLogger("batch_gateway.run")


def log_crash(error: Exception, custom_id: str) -> str:
    """Note an unexpected exception in the log."""
    _log.error("%s: unexpected %s", custom_id, type(error).__name__, exc_info=error)
    return "the log has the traceback"


ClientFor = Callable[[str], InferenceClient | None]
"""The client for a model, or None when no gateway serves it."""

_LINES_BETWEEN_BREATHS = 256
_NEVER = float("inf")


@dataclass(slots=True)
class Executor:
    """Sends every line that is not done, once.

    Attributes:
        plan, journal, client_for, stats, clock: what it works with.
        concurrency: lines under way for each distinct client; None asks the client.
        order: see `Plan.order`.
        deadline: monotonic seconds at which nothing is wanted any more; infinity for none.
        due: monotonic seconds by which results are wanted; infinity when nobody says.
        tenant: on whose behalf lines are sent.
        max_bytes: of requests and answers in memory, shared evenly by the lanes.
        records_all: no failure is held for what it says about its gateway or model, where it may
            be the line's own.
        report_crash: is told of an unexpected exception and the custom_id of its line, and says
            where a person finds more.
        deadline_passed: a request met it.
        deadline_words: what the gateway said that asked for more time than is left.
    """

    plan: Plan
    journal: Journal
    client_for: ClientFor
    stats: RunStats
    clock: Clock
    concurrency: int | None
    order: Order
    deadline: float
    due: float = _NEVER
    tenant: str = ""
    max_bytes: int = DEFAULT_BUDGET
    records_all: bool = False
    report_crash: ReportCrash = log_crash
    deadline_passed: bool = False
    deadline_words: str = ""

    def lanes(self) -> tuple[list[Lane], list[str]]:
        """One lane a distinct client, and the models that have none."""
        models_of: dict[int, list[str]] = {}
        clients: dict[int, InferenceClient] = {}
        orphans: list[str] = []
        for model in self.plan.models:
            client = self.client_for(model)
            if client is None:
                orphans.append(model)
            else:
                clients[id(client)] = client
                models_of.setdefault(id(client), []).append(model)
        # A gateway that is slow must not have the room of another.
        share = self.max_bytes // max(1, len(models_of))
        lanes = [self._lane(clients[key], models, share) for key, models in models_of.items()]
        self.stats.rooms = tuple(lane.room for lane in lanes)
        return lanes, orphans

    def _lane(self, client: InferenceClient, models: Sequence[str], max_bytes: int) -> Lane:
        limit = lines_for(client) if self.concurrency is None else self.concurrency
        gate = Gate.for_concurrency(
            limit, resumed=self.journal.results_before > 0, records_all=self.records_all
        )
        room = ByteBudget(max_bytes, self.clock.monotonic)
        return Lane(client, models, _LinesToDo(self, models), gate, limit, room=room)

    def to_do(self, models: Sequence[str]) -> Iterator[int]:
        """The lines of these models that have no result, in the order in which they are sent."""
        wanted = None if len(models) == len(self.plan.models) else frozenset(models)
        # What is done by this run is not come to again.
        done = None if self.journal.was_untouched else self.journal.is_done
        return self.plan.order(self.order, done, wanted)

    async def refuse(self, models: Sequence[str]) -> None:
        """Record an error for every line of models that no gateway serves."""
        for count, index in enumerate(self.to_do(models) if models else ()):
            result_id, line = self.plan.request(index)
            model = self.plan.model_of(index)
            await self._record(unknown_model_outcome(index, result_id, line.custom_id, model))
            if count % _LINES_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)

    async def work(self, lane: Lane) -> None:
        """What one worker of `lane` does: line after line, until there are none for it."""
        room = lane.room
        while (ticket := lane.take()) is not None:
            cost, held = room.cost(self.plan.size_of(ticket.index)), 0
            try:
                try:
                    if not room.take(cost):
                        await room.wait(cost)
                    held = cost
                    # It may have waited for room until nothing was to be sent any more.
                    ended = None if lane.is_closed else await self._send(lane, ticket)
                except BaseException:
                    lane.give_up(ticket)
                    raise
                if ended is None:
                    lane.give_up(ticket)
                    continue
                for judged in lane.judge(ended):
                    await self._record(judged.outcome)
            finally:
                room.give(held)
            if self.stats.too_many_failed.is_set():
                lane.close()

    async def _send(self, lane: Lane, ticket: Ticket) -> Ended | None:
        """How a line ended; None when it did not and stays to be sent."""
        index = ticket.index
        result_id, line = self.plan.request(index)
        custom_id = line.custom_id
        request = InferenceRequest(
            params=bytes(line.body),
            request_id=result_id,
            model=ticket.model,
            endpoint=line.url,
            deadline=None if self.deadline == _NEVER else self._seconds_left(),
            due=None if self.due == _NEVER else self.due - self.clock.monotonic(),
            tenant=self.tenant,
        )
        # It holds the text of the whole line, which would be in memory twice.
        del line
        self.stats.in_flight += 1
        try:
            try:
                response = await lane.client.generate(request)
            except InferenceError as error:
                if self._is_cut_off(error, lane):
                    return None
                outcome = failure_outcome(index, result_id, custom_id, error)
                return Ended(ticket, outcome, read_evidence(error))
            outcome = success_outcome(index, result_id, custom_id, response)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this request's alone
            return self._internal_error(ticket, result_id, custom_id, error)
        finally:
            self.stats.in_flight -= 1
        lane.room.learn(len(response.body))
        # The cache answers whether or not the gateway does.
        return Ended(ticket, outcome, SAYS_NOTHING if response.from_cache else ALIVE)

    def _internal_error(
        self, ticket: Ticket, result_id: str, custom_id: str, error: Exception
    ) -> Ended:
        told = self.report_crash(error, custom_id)
        outcome = internal_error_outcome(ticket.index, result_id, custom_id, error, told)
        return Ended(ticket, outcome, Evidence(Sign.OWN, f"internal {type(error).__name__}"))

    def _is_cut_off(self, error: InferenceError, lane: Lane) -> bool:
        """Whether this is no result of the request: the run is over for it, not the request."""
        if isinstance(error, CircuitOpenError):
            # Its gateway was down for longer than anybody wants to wait.
            lane.halt(error.message)
            return True
        if self.deadline == _NEVER:
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

    def _seconds_left(self) -> float:
        return max(0.0, self.deadline - self.clock.monotonic())

    async def _record(self, outcome: Outcome) -> None:
        ok = outcome.category is None
        self.stats.count(outcome, 0 if ok else self.plan.line_number(outcome.index))
        await self.journal.append(outcome.index, outcome.line, ok)


class _LinesToDo:
    """The lines of one lane."""

    def __init__(self, executor: Executor, models: Sequence[str]) -> None:
        self._executor = executor
        self._models = models
        self.model_of = executor.plan.model_of

    def in_order(self) -> Iterator[int]:
        return self._executor.to_do(self._models)
