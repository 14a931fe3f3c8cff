"""One gateway's share of a run: its lines, its workers, its start gate."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from batch_gateway.batch.results import Outcome
from batch_gateway.batch.start_gate import GateState, Phase, Sign, Verdict, settle, widen
from batch_gateway.client.request import InferenceClient

__all__ = ["Lane", "lines_for"]

_FEWEST_READY = 8
_LIMIT_OF_OTHERS = 64
# Each line under way is in memory.
_MOST_TO_JOIN = 8192


def lines_for(client: InferenceClient) -> int:
    """How many lines to have under way for a client that limits its sendings itself.

    More than it sends at once: a line that waits out a backoff takes no place at the gateway,
    and one that becomes free should be taken at once. For a client that joins lines to one
    sending, as many times more, or its sendings would never be full.
    """
    limit: int | None = getattr(client, "concurrency_limit", None)
    if limit is None:
        return _LIMIT_OF_OTHERS
    ready = limit + max(_FEWEST_READY, limit // 2)
    joined: int = getattr(client, "requests_per_attempt", 1)
    return max(ready, min(ready * joined, _MOST_TO_JOIN))


class Lane:
    """Sends the lines of some models through one client, a limited number at a time.

    A worker is a task that takes line after line; there are never more of them than `limit`,
    nor more than there are lines. Lanes share nothing, so that a slow gateway holds up no other.

    Attributes:
        client: where its lines go.
        models: whose lines they are.
        limit: how many requests may be under way.
        problem: why the gateway was given up, or None.
        idle: set when no worker is left and none will come.
    """

    def __init__(
        self,
        client: InferenceClient,
        models: Sequence[str],
        indexes: Iterator[int],
        gate: GateState,
        limit: int,
    ) -> None:
        self.client = client
        self.models = tuple(models)
        self.limit = limit
        self.problem: str | None = None
        self._gate = gate
        self._indexes = indexes
        self._next = next(indexes, None)
        self._held: list[Outcome] = []
        self._sending = 0
        self._closed = False
        self._workers: set[asyncio.Task[None]] = set()
        self._work: Callable[[Lane], Coroutine[Any, Any, None]] | None = None
        self.idle = asyncio.Event()
        self._error: BaseException | None = None

    def start(self, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """Begin; `work` is what one worker does until `take` gives it nothing."""
        self._work = work
        self._fill()

    def set_limit(self, limit: int) -> None:
        """Allow more or fewer requests under way. Nothing under way is cut off."""
        self.limit = limit
        self._fill()

    def widen(self) -> None:
        """The gateway takes its time with the first answers: do not wait for them."""
        self._gate = widen(self._gate)
        self._fill()

    def _allowed(self) -> float:
        return min(self.limit, self._gate.most_in_flight)

    def take(self) -> int | None:
        """The next line to send, or None when this worker should end."""
        index = self._next
        if index is None or self._closed or not self._gate.admits:
            return None
        if len(self._workers) > self._allowed():
            return None
        self._next = next(self._indexes, None)
        self._sending += 1
        return index

    def give_up(self) -> None:
        """A line that was taken ended without an outcome."""
        self._sending -= 1

    def judge(self, outcome: Outcome, sign: Sign) -> Sequence[Outcome]:
        """A line that was taken has ended: what is to be recorded now."""
        self._sending -= 1
        # The usual case first: this runs once a request.
        if self._gate.phase is Phase.OPEN:
            return (outcome,)
        # After a stop the lines that were not sent say nothing about the gateway.
        unsent = self._next is not None or self._closed
        self._gate, verdict = settle(self._gate, sign, in_flight=self._sending, unsent=unsent)
        if verdict is Verdict.RECORD:
            return (outcome,)
        self._held.append(outcome)
        if verdict is Verdict.HOLD:
            return ()
        released, self._held = self._held, []
        if verdict is Verdict.RECORD_ALL:
            self._fill()
            return released
        self.problem = _describe(released)
        # Not this worker, which is about to end by itself.
        self._cancel_workers(but=asyncio.current_task())
        return ()

    @property
    def has_answered(self) -> bool:
        """Whether the gateway showed a sign of life."""
        return self._gate.phase is Phase.OPEN

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._fill()

    def halt(self, problem: str) -> None:
        """The gateway is given up: what is under way is cut off and stays to be sent."""
        self.problem = self.problem or problem
        self.close()
        # Not this worker, which is about to end by itself.
        self._cancel_workers(but=asyncio.current_task())

    def cancel(self) -> None:
        """Cut off whatever is under way."""
        self.close()
        self._cancel_workers()

    def _cancel_workers(self, but: asyncio.Task[Any] | None = None) -> None:
        for worker in self._workers:
            if worker is not but:
                worker.cancel()

    async def wait(self) -> None:
        """Return when no worker is left. Raises what a worker raised."""
        await self.idle.wait()
        if self._error is not None:
            raise self._error

    def _fill(self) -> None:
        """Have as many workers as are useful."""
        while (
            self._work is not None
            and self._next is not None
            and not self._closed
            and self._gate.admits
            and len(self._workers) < self._allowed()
        ):
            worker = asyncio.create_task(self._work(self))
            self._workers.add(worker)
            worker.add_done_callback(self._ended)
        if not self._workers:
            self.idle.set()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if error is not None and self._error is None:
            self._error = error
            self.cancel()
        self._fill()


def _describe(held: Sequence[Outcome]) -> str:
    message, _ = Counter(outcome.message for outcome in held).most_common(1)[0]
    return message
