"""The second pass: lines through clients, a bounded number at a time, results to the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from batch_gateway.batch.journal import Journal
from batch_gateway.batch.lane import Lane, lines_for
from batch_gateway.batch.plan import Order, Plan
from batch_gateway.batch.progress import RunStats
from batch_gateway.batch.results import (
    Outcome,
    failure_outcome,
    success_outcome,
    unknown_model_outcome,
)
from batch_gateway.batch.start_gate import GateState, Sign, read_sign
from batch_gateway.client.clock import Clock
from batch_gateway.client.request import InferenceClient, InferenceRequest
from batch_gateway.errors import CircuitOpenError, DeadlineExceededError, InferenceError
from batch_gateway.wire.lines import BatchLine, decode_batch_line, line_id

__all__ = ["ClientFor", "Executor"]

ClientFor = Callable[[str], InferenceClient | None]
"""The client for a model, or None when no gateway serves it."""

_LINES_BETWEEN_BREATHS = 256
# As long as a client waits between two attempts, unless it is asked to wait longer.
_RETRY_SECONDS = 60.0


@dataclass(slots=True)
class Executor:
    """Sends every line that is not done, once.

    Attributes:
        plan, journal, client_for, stats, clock: what it works with.
        concurrency: lines under way for each distinct client; None asks the client.
        order: see `Plan.order`.
        deadline: monotonic seconds at which nothing is wanted any more; infinity for none.
        deadline_passed: a request met it.
    """

    plan: Plan
    journal: Journal
    client_for: ClientFor
    stats: RunStats
    clock: Clock
    concurrency: int | None
    order: Order
    deadline: float
    deadline_passed: bool = False

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
        return [self._lane(clients[key], models) for key, models in models_of.items()], orphans

    def _lane(self, client: InferenceClient, models: Sequence[str]) -> Lane:
        resumed = self.journal.results_before > 0
        lines = lines_for(client) if self.concurrency is None else self.concurrency
        gate = GateState.for_concurrency(lines, resumed=resumed)
        return Lane(client, models, self._to_do(models), gate, lines)

    def _to_do(self, models: Sequence[str]) -> Iterator[int]:
        wanted = None if len(models) == len(self.plan.models) else frozenset(models)
        return self.plan.order(self.order, self.journal.is_done, wanted)

    async def refuse(self, models: Sequence[str]) -> None:
        """Record an error for every line of models that no gateway serves."""
        for count, index in enumerate(self._to_do(models) if models else ()):
            result_id, line = self._read(index)
            model = self.plan.model_of(index)
            await self._record(unknown_model_outcome(index, result_id, line.custom_id, model))
            if count % _LINES_BETWEEN_BREATHS == 0:
                await asyncio.sleep(0)

    async def work(self, lane: Lane) -> None:
        """What one worker of `lane` does: line after line, until there are none for it."""
        while (index := lane.take()) is not None:
            try:
                judged = await self._send(lane, index)
            except BaseException:
                lane.give_up()
                raise
            if judged is None:
                lane.give_up()
                continue
            for outcome in lane.judge(*judged):
                await self._record(outcome)

    async def _send(self, lane: Lane, index: int) -> tuple[Outcome, Sign] | None:
        """How line `index` ended; None when it did not and stays to be sent."""
        result_id, line = self._read(index)
        request = InferenceRequest(
            params=bytes(line.body),
            request_id=result_id,
            model=self.plan.model_of(index),
            endpoint=line.url,
            deadline=self._seconds_left(),
        )
        self.stats.in_flight += 1
        try:
            response = await lane.client.generate(request)
        except InferenceError as error:
            if self._is_cut_off(error, lane):
                return None
            return failure_outcome(index, result_id, line.custom_id, error), read_sign(error)
        finally:
            self.stats.in_flight -= 1
        # The cache answers whether or not the gateway does.
        sign = Sign.NEUTRAL if response.from_cache else Sign.LIFE
        return success_outcome(index, result_id, line.custom_id, response), sign

    def _is_cut_off(self, error: InferenceError, lane: Lane) -> bool:
        """Whether this is no result of the request: the run is over for it, not the request."""
        if isinstance(error, CircuitOpenError):
            # Its gateway was down for longer than anybody wants to wait.
            lane.halt(error.message)
            return True
        left = self._seconds_left()
        if left is None:
            return False
        if isinstance(error, DeadlineExceededError):
            self.deadline_passed = True
            lane.close()
            return True
        # So near the end the client gives up a retry that could only come too late.
        no_time_to_retry = left <= max(_RETRY_SECONDS, error.retry_after or 0.0)
        return error.is_retryable and no_time_to_retry and lane.has_answered

    def _seconds_left(self) -> float | None:
        if self.deadline == float("inf"):
            return None
        return max(0.0, self.deadline - self.clock.monotonic())

    def _read(self, index: int) -> tuple[str, BatchLine]:
        """Raises InputError when the file is not what it was."""
        text = self.plan.read(index)
        try:
            line = decode_batch_line(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self.plan.changed() from error
        return line_id(self.plan.fingerprint, index), line

    async def _record(self, outcome: Outcome) -> None:
        ok = outcome.category is None
        self.stats.count(outcome, 0 if ok else self.plan.line_number(outcome.index))
        await self.journal.append(outcome.index, outcome.line, ok)
