"""The second pass: lines through clients, a bounded number at a time, results to the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch_gateway.client.interfaces.request import InferenceClient, InferenceRequest
from batch_gateway.engine.byte_budget import DEFAULT_BUDGET, ByteBudget
from batch_gateway.engine.gate import Gate
from batch_gateway.engine.journal import Journal
from batch_gateway.engine.lane import Lane, lines_for
from batch_gateway.engine.plan import Order, Plan
from batch_gateway.engine.results import Outcome, faulty_outcome, unknown_model_outcome
from batch_gateway.engine.sending import (
    NEVER,
    Answer,
    ClientFor,
    HeadersFor,
    Sender,
    TellOfAnswer,
)
from batch_gateway.engine.tickets import Ticket

__all__ = ["Executor"]

_LINES_BETWEEN_BREATHS = 256
# Each keeps a share of the room for bytes, whatever it has to send.
_MOST_SIDE_BY_SIDE = 16


@dataclass(slots=True, kw_only=True)
class Executor(Sender):
    """Sends every line of a plan that is not done, once.

    Attributes:
        plan, journal, client_for: what it works with.
        concurrency: lines under way for each distinct client; None asks the client.
        order: see `Plan.order`.
        side_by_side: each model of a client has a lane.
        due: monotonic seconds by which results are wanted; infinity when nobody says.
        tenant: on whose behalf lines are sent.
        headers_for: what is sent with every line through a client.
        max_bytes: of requests and answers in memory, shared evenly by the lanes.
        records_all: no failure is held for what it says about its gateway or model, where it may
            be the line's own.
        tell: is told of answers as they come.
        headers: what `headers_for` said, by model.
    """

    plan: Plan
    journal: Journal
    client_for: ClientFor
    concurrency: int | None
    order: Order
    side_by_side: bool = False
    due: float = NEVER
    tenant: str = ""
    headers_for: HeadersFor | None = None
    max_bytes: int = DEFAULT_BUDGET
    records_all: bool = False
    tell: TellOfAnswer | None = None
    headers: dict[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])

    def lanes(self) -> tuple[list[Lane], list[str]]:
        """Those of each distinct client, and the models that have none."""
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
        lanes = [
            lane
            for key, models in models_of.items()
            for lane in self._of(clients[key], models, share)
        ]
        self.stats.rooms = tuple(lane.room for lane in lanes)
        return lanes, orphans

    def _of(self, client: InferenceClient, models: Sequence[str], max_bytes: int) -> Sequence[Lane]:
        count = min(len(models), _MOST_SIDE_BY_SIDE) if self.side_by_side else 1
        share = max_bytes // count
        lanes = [self._lane(client, models[first::count], share) for first in range(count)]
        for lane in lanes:
            lane.share_with([other for other in lanes if other is not lane])
        return lanes

    def _lane(self, client: InferenceClient, models: Sequence[str], max_bytes: int) -> Lane:
        limit = lines_for(client) if self.concurrency is None else self.concurrency
        has_results = self.journal.succeeded + self.journal.failed > 0
        gate = Gate.for_concurrency(limit, resumed=has_results, records_all=self.records_all)
        room = ByteBudget(max_bytes, self.clock.monotonic)
        if self.headers_for is not None:
            self.headers |= dict.fromkeys(models, self.headers_for(client))
        return Lane(client, models, _LinesToDo(self, models), gate, limit, room=room)

    def to_do(self, models: Sequence[str]) -> Iterator[int]:
        """The lines of these models that have no result, in the order in which they are sent."""
        wanted = None if len(models) == len(self.plan.models) else frozenset(models)
        # What is done by this run is not come to again.
        done = None if self.journal.was_untouched else self.journal.is_done
        return self.plan.order(self.order, done, wanted)

    async def refuse(self, models: Sequence[str]) -> None:
        """Record an error for every line that cannot be sent, or of models that have no gateway."""
        for index in self.plan.faulty:
            if not self.journal.is_done(index):
                await self.record(faulty_outcome(index, *self.plan.problems(index)))
        for count, index in enumerate(self.to_do(models) if models else ()):
            result_id, line = self.plan.request(index)
            model = self.plan.model_of(index)
            await self.record(unknown_model_outcome(index, result_id, line.custom_id, model))
            if count % _LINES_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)

    def request_of(self, ticket: Ticket) -> tuple[InferenceRequest, str]:
        result_id, line = self.plan.request(ticket.index)
        clock = self.clock
        request = InferenceRequest(
            params=bytes(line.body),
            request_id=result_id,
            model=ticket.model,
            endpoint=line.url,
            deadline=None
            if self.deadline == NEVER
            else max(0.0, self.deadline - clock.monotonic()),
            due=None if self.due == NEVER else self.due - clock.monotonic(),
            tenant=self.tenant,
            headers=self.headers.get(ticket.model),
        )
        # The line itself holds all of its text, which would be in memory twice.
        return request, line.custom_id

    def keep(
        self, ticket: Ticket, request: InferenceRequest, answer: Answer, seconds: float
    ) -> None:
        if self.tell is not None:
            self.tell(request, answer, seconds)

    def record(self, outcome: Outcome) -> Coroutine[Any, Any, None]:
        ok = outcome.category is None
        is_plain = ok and outcome.cut_off is None
        self.stats.count(outcome, 0 if is_plain else self.plan.line_number(outcome.index))
        # The journal's own coroutine: one that only waits for it is made for each line, too.
        return self.journal.append(outcome.index, outcome.line, ok)


class _LinesToDo:
    """The lines of one lane."""

    is_complete = True

    def __init__(self, executor: Executor, models: Sequence[str]) -> None:
        self._executor = executor
        self._models = models
        self.model_of = executor.plan.model_of
        self.size_of = executor.plan.size_of

    def in_order(self) -> Iterator[int]:
        return self._executor.to_do(self._models)
