"""One gateway's share of a run: its lines, its workers, its gate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol, cast

from batch_gateway.client.interfaces.request import InferenceClient
from batch_gateway.engine.byte_budget import ByteBudget
from batch_gateway.engine.gate import PROBES, Gate
from batch_gateway.engine.spread import spread_of
from batch_gateway.engine.tickets import Ended, Ticket, Verdict

__all__ = ["Lane", "Lines", "lines_for"]

_LATE_LIMIT = 3
_LIMIT_OF_OTHERS = 64


class PacedClient(Protocol):
    """A client that limits its sendings itself, and says how many lines it has use for."""

    @property
    def requests_wanted(self) -> int | None:
        """How many lines to have under way; None for the usual number."""
        ...

    def when_wanted(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have `listener` called when that may have changed, until the result is called."""
        ...


def lines_for(client: InferenceClient) -> int:
    """How many lines to have under way for a client."""
    wanted: int | None = getattr(client, "requests_wanted", None)
    return _LIMIT_OF_OTHERS if wanted is None else wanted


class Lines(Protocol):
    """The lines of a lane.

    Attributes:
        is_complete: no more will come.
    """

    is_complete: bool

    def in_order(self) -> Iterator[int]:
        """Those that have no result, in the order in which they are sent; the same each time."""
        ...

    def model_of(self, index: int) -> str: ...

    def size_of(self, index: int) -> int:
        """The bytes of a line."""
        ...


class Lane:
    """Sends the lines of some models through one client, a limited number at a time.

    A worker is a task that takes line after line; there are never more of them than `limit`,
    nor more than there are lines. Lanes of different clients share nothing, so that a slow gateway
    holds up no other; those of one share its places, see `share_with`.

    Attributes:
        client: where its lines go.
        models: whose lines they are.
        limit: how many requests may be under way.
        room: for the bytes of its lines, which no other lane can take.
        size_of: the bytes of a line.
        is_closed: nothing more is to be sent.
        idle: set when no worker is left and none will come.
        given_up: set when nothing more is sent, because the gateway refuses.
    """

    def __init__(
        self,
        client: InferenceClient,
        models: Sequence[str],
        lines: Lines,
        gate: Gate,
        limit: int,
        *,
        room: ByteBudget,
    ) -> None:
        self.client = client
        self.models = tuple(models)
        self.limit = self._wanted = limit
        self.room = room
        self._beside: Sequence[Lane] = ()
        self._halted: str | None = None
        self._gate = gate
        self._lines = lines
        # Asked once a line, and so without a call in between.
        self.size_of = lines.size_of
        self._indexes = lines.in_order()
        self._next = next(self._indexes, None)
        self._again: deque[tuple[int, str, int]] = deque()
        self._probes: deque[tuple[int, str, int]] = deque()
        self._probed: set[int] = set()
        self._sending = self._late = 0
        self.is_closed = False
        self._workers: set[asyncio.Task[None]] = set()
        self._work: Callable[[Lane], Coroutine[Any, Any, None]] | None = None
        self.idle = asyncio.Event()
        self.given_up = asyncio.Event()
        self._error: BaseException | None = None

    def start(self, work: Callable[[Lane], Coroutine[Any, Any, None]]) -> None:
        """Begin; `work` is what one worker does until `take` gives it nothing."""
        self._work = work
        self._fill()

    def follow(self) -> Callable[[], None]:
        """Go by how many lines the client has use for, until the result is called.

        Nothing that is under way is cut off.
        """
        client = cast("PacedClient", self.client)

        def look() -> None:
            self._wanted = lines_for(self.client)
            self._fit()

        return client.when_wanted(look) if hasattr(client, "when_wanted") else lambda: None

    def share_with(self, others: Sequence[Lane]) -> None:
        """The limit is this lane's and theirs together.

        Lanes that have lines have even shares of what the last lines of the others leave. So a
        model whose answers never come has its share of the places, and no more.
        """
        self._beside = others
        self.limit = self._share()

    def _share(self) -> int:
        ebbing = [lane for lane in self._beside if lane._ebbs]
        left = self._wanted - sum(len(lane._workers) for lane in ebbing)
        return max(1, -(-left // (1 + len(self._beside) - len(ebbing))))

    @property
    def _ebbs(self) -> bool:
        """Whether nothing more will be sent than what is under way."""
        return self.is_closed or (not self._has_line() and self._is_dry)

    def _fit(self) -> None:
        self.limit = self._share()
        self._fill()

    def widen(self) -> None:
        """The gateway takes its time with the first answers: do not wait for them."""
        self._gate.widen()
        self._fill()

    def more(self) -> None:
        """Lines have come, or no more will."""
        if self._next is None:
            self._next = next(self._indexes, None)
        self._fill()

    def _allowed(self) -> float:
        return min(self.limit, self._gate.most_in_flight)

    # --- lines ---

    def take(self) -> Ticket | None:
        """The next line to send, or None when this worker should end."""
        if self.is_closed:
            return None
        # The usual case first: this runs once a request. A gate that is calm allows any number.
        gate = self._gate
        if gate.calm and gate.whole and not self._probed and not self._again:
            return self._take_next() if len(self._workers) <= self.limit else None
        if len(self._workers) > self._allowed() or not self._has_line():
            return None
        if self._probes:
            line = self._probes.popleft()
        elif self._again and (self._next is None or self._gate.admits(self._again[0][1])):
            line = self._again.popleft()
        else:
            return self._take_next()
        self._sending += 1
        return self._gate.sent(*line)

    def _take_next(self) -> Ticket | None:
        index = self._next
        if index is None:
            return None
        self._sending += 1
        self._next = next(self._indexes, None)
        return self._gate.sent(index, self._lines.model_of(index))

    def _any_line_goes(self) -> bool:
        """Whether the next line in order may be sent, whatever its model."""
        gate = self._gate
        return gate.calm and gate.whole and not self._probed

    def _has_line(self) -> bool:
        """Whether a line may be sent now; passes over those that stay to be sent."""
        if self._probes:
            return True
        while self._again and self._gate.is_shut(self._again[0][1]):
            self._again.popleft()
        if self._again and self._gate.admits(self._again[0][1]):
            return True
        if self._any_line_goes():
            return self._next is not None
        while self._next is not None:
            model = self._lines.model_of(self._next)
            if self._next not in self._probed and not self._gate.is_shut(model):
                return self._gate.admits(model)
            self._next = next(self._indexes, None)
        return False

    @property
    def _is_dry(self) -> bool:
        """Whether every line was sent that is here; `_has_line` was asked just now."""
        return self._next is None and not self._again and not self._probes

    # --- ends ---

    def give_up(self, ticket: Ticket) -> None:
        """A line that was taken ended without an outcome."""
        self._sending -= 1
        self._gate.lost(ticket)

    def judge(self, ended: Ended) -> Sequence[Ended]:
        """A line that was taken has ended: what is to be recorded now."""
        self._sending -= 1
        self._late = 0
        # The usual case first: this runs once a request.
        if self._gate.passes(ended):
            return (ended,)
        was_calm = self._gate.calm
        verdict = self._gate.ended(ended)
        if was_calm and self._gate.calm:
            return verdict.record
        recorded = [*self._take_in(verdict), *self._settle(is_last=self._lines.is_complete)]
        self._fill()
        return recorded

    def _take_in(self, verdict: Verdict) -> Sequence[Ended]:
        self._again.extend(
            (held.ticket.index, held.ticket.model, held.ticket.sendings + 1)
            for held in verdict.send_again
        )
        return verdict.record

    def is_too_late(self, *, asked: bool) -> bool:
        """One more request has no time for its retry; `asked`, the gateway set the wait.

        Whether so many in a row, with no result between them, say that none has.
        """
        self._late += asked
        return self._late >= _LATE_LIMIT

    def _settle(self, *, is_last: bool) -> Sequence[Ended]:
        """Try lines from elsewhere, shut what is to be shut, and at the end decide on the rest."""
        # After a stop the lines that were not sent say nothing about the gateway.
        if self.is_closed:
            return ()
        for model in self._gate.to_probe():
            self._probe(model)
        if not self._probes:
            self._gate.decide()
        record: Sequence[Ended] = ()
        if is_last and not self._has_line() and self._is_dry and not self._sending:
            record = self._take_in(self._gate.finish())
        if self._gate.problem is not None:
            self._shut()
        return record

    def settle(self) -> Sequence[Ended]:
        """No line has come for long, or none will: what is to be recorded of what is held."""
        record = self._settle(is_last=True)
        self._fill()
        return record

    def _probe(self, model: str | None) -> None:
        """Have lines from all over the rest sent next."""
        model_of = self._lines.model_of
        # One that was tried and is done is no longer among the rest.
        while self._next in self._probed:
            self._next = next(self._indexes, None)
        wanted = (
            index
            for index in self._rest()
            if index not in self._probed and model in (None, model_of(index))
        )
        chosen = spread_of(wanted, PROBES)
        self._probed.update(chosen)
        self._probes.extend((index, model_of(index), 1) for index in chosen)

    def _rest(self) -> Iterator[int]:
        """The lines that were not taken in their order yet."""
        indexes = self._lines.in_order()
        if self._next is None:
            return
        for index in indexes:
            if index == self._next:
                yield index
                break
        yield from indexes

    def _shut(self) -> None:
        self.given_up.set()
        if not self._gate.has_answered:
            # Not this worker, which is about to end by itself.
            self._cancel_workers(but=asyncio.current_task())

    # --- the end ---

    @property
    def gate(self) -> Gate:
        """What it has come to know about its gateway."""
        return self._gate

    @property
    def problem(self) -> str | None:
        """Why the gateway was given up."""
        return self._halted or self._gate.problem

    @property
    def problems(self) -> dict[tuple[str, ...], str]:
        """Why the gateway, or which of its models, was given up."""
        if self.problem is not None:
            return {self.models: self.problem}
        by_words: dict[str, tuple[str, ...]] = {}
        for model, words in self._gate.problems().items():
            by_words[words] = (*by_words.get(words, ()), model)
        return {models: words for words, models in by_words.items()}

    def close(self) -> None:
        """Send nothing more."""
        self.is_closed = True
        self._fill()

    def halt(self, problem: str) -> None:
        """The gateway is given up: what is under way is cut off and stays to be sent."""
        self._halted = self._halted or problem
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
            and not self.is_closed
            and len(self._workers) < self._allowed()
            and self._has_line()
        ):
            worker = asyncio.create_task(self._work(self))
            self._workers.add(worker)
            worker.add_done_callback(self._ended)
        if not self._workers and (self.is_closed or self._lines.is_complete):
            self.idle.set()

    def _ended(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if error is not None and self._error is None:
            self._error = error
            self.cancel()
        self._fill()
        if self._beside and self._ebbs:
            for lane in self._beside:
                lane._fit()
