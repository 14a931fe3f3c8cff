"""Lines that come one by one, from whoever has them, through clients; results as lines end.

A stream is a run without a file: its lanes, gates and workers are those of `run_plan`. It knows
neither how many lines will come nor for which models, and keeps those alone that have no result.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence

import msgspec

from batch_gateway.client.interfaces.request import (
    InferenceClient,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.clock import Clock
from batch_gateway.engine.byte_budget import ByteBudget
from batch_gateway.engine.gate import Gate
from batch_gateway.engine.lane import Lane, lines_for
from batch_gateway.engine.lines_ahead import LinesAhead, StreamedLine
from batch_gateway.engine.progress import RunStats
from batch_gateway.engine.results import Outcome, unknown_model_words
from batch_gateway.engine.run import RunOptions, cut_off, gateway_problem, tend
from batch_gateway.engine.sending import Answer, ClientFor, Sender
from batch_gateway.engine.tickets import Ticket
from batch_gateway.errors import CircuitOpenError, InferenceError, InvalidRequestError
from batch_gateway.wire.usage import Usage

__all__ = ["BatchResult", "LineStream"]

# Enough for who takes results in bursts.
_MOST_RESULTS = 64
_FEWEST_AHEAD = 64


class BatchResult(msgspec.Struct, frozen=True):
    """How a line ended: with a response, or with an error.

    Attributes:
        index: its place among the lines, from 0.
        custom_id: its own, or `request-1` for the first line if that has none.
        response: the answer, None where there is none.
        error: why there is none; an `InvalidRequestError` with the code `invalid_line` for a line
            that cannot be sent.
    """

    index: int
    custom_id: str
    response: InferenceResponse | None = None
    error: InferenceError | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a response."""
        return self.error is None

    @property
    def text(self) -> str:
        """What the model said; "" for an error. See `InferenceResponse.text`."""
        return "" if self.response is None else self.response.text

    @property
    def usage(self) -> Usage | None:
        """The tokens that the response counts; None where there is no response."""
        return None if self.response is None else self.response.usage


class _Route(msgspec.Struct):
    """A lane with its lines, and what looks after it.

    Attributes:
        models: whose lines there have been.
        shut: how many of them were when last looked at.
        is_over: nothing goes through it any more.
    """

    lane: Lane
    ahead: LinesAhead
    models: dict[str, None] = {}
    watching: asyncio.Task[None] | None = None
    shut: int = 0
    is_over: bool = False


class LineStream(Sender):
    """Lines in by `put`, out by `results`, which end after `finish` with the last one.

    Every line has exactly one result, unless the stream is closed before. Those of a gateway or a
    model that was given up have an error for one. Memory is what is under way and some lines ahead
    of that: `put` waits while there are enough, and a worker while results are not taken.

    Attributes:
        put_count: how many lines were put.
        hopeless: set once everything that lines were for was given up, and no gateway is left that
            none was for. Nothing more need be put then.
    """

    def __init__(
        self,
        client_for: ClientFor,
        *,
        options: RunOptions,
        gateways: int,
        stats: RunStats,
        clock: Clock,
    ) -> None:
        super().__init__(stats=stats, clock=clock)
        self.client_for = client_for
        self.put_count = 0
        self.hopeless = asyncio.Event()
        self._options = options
        self._gateways = gateways
        self._lines: dict[int, StreamedLine] = {}
        self._bytes = 0
        self._routes: dict[int, _Route] = {}
        self._results: deque[BatchResult] = deque()
        self._finished = False
        self._arrived = asyncio.Event()
        self._moved = asyncio.Event()

    # --- lines in ---

    async def put(self, index: int, custom_id: str, request: InferenceRequest) -> None:
        """Take one more line, whose request has a model, an endpoint and bytes for a body."""
        await self._wait_for_room()
        self.put_count += 1
        line = StreamedLine(index, custom_id, request)
        client = self.client_for(request.model)
        if client is None:
            error = InvalidRequestError(unknown_model_words(request.model), code="model_not_found")
            self._push(line, error)
            return
        route = self._routes.get(id(client)) or self._open(client)
        route.models[request.model] = None
        if route.is_over or route.lane.gate.is_shut(request.model):
            self._push(line, _not_sent(route, line))
            return
        self._lines[index] = line
        self._bytes += line.size
        route.ahead.add(index)
        route.lane.more()

    async def refuse(self, index: int, custom_id: str, error: InferenceError) -> None:
        """Take one more line, which has an error for a result before it is sent."""
        await self._wait_for_room()
        self.put_count += 1
        self._push(StreamedLine(index, custom_id, InferenceRequest(params=b"")), error)

    async def _wait_for_room(self) -> None:
        try:
            while self._is_full() and not self.hopeless.is_set():
                self._moved.clear()
                await self._moved.wait()
        except asyncio.CancelledError:
            # Nothing more is to be taken; what was taken has a result all the same.
            if not self.hopeless.is_set():
                raise

    def _is_full(self) -> bool:
        if len(self._results) >= _MOST_RESULTS:
            return True
        if self._bytes > self._options.max_bytes_in_flight:
            return True
        routes = self._routes.values()
        most = max(_FEWEST_AHEAD, sum(route.lane.limit for route in routes))
        return sum(len(route.ahead) for route in routes) >= most

    def _open(self, client: InferenceClient) -> _Route:
        options = self._options
        limit = lines_for(client) if options.concurrency is None else options.concurrency
        # Few failures in doubt at the end are their lines' own: nobody would send them again.
        gate = Gate.for_concurrency(limit, resumed=True)
        room = ByteBudget(
            options.max_bytes_in_flight // max(1, self._gateways), self.clock.monotonic
        )
        ahead = LinesAhead(self._lines, self._moved.set)
        lane = Lane(client, (), ahead, gate, limit, room=room)
        lane.start(self.work)
        route = self._routes[id(client)] = _Route(lane, ahead)
        route.watching = asyncio.ensure_future(self._watch(route))
        return route

    async def settle(self) -> None:
        """No line has come for long: record what is held for what it may say about a gateway."""
        for route in list(self._routes.values()):
            for judged in route.lane.settle():
                await self.record(judged.outcome)
            self._look_for_shut(route)

    async def finish(self) -> None:
        """No more lines come. Returns when each has its result; raises what a worker raised."""
        for route in self._routes.values():
            route.ahead.is_complete = True
        await self.settle()
        for route in self._routes.values():
            route.lane.more()
        watching = [route.watching for route in self._routes.values() if route.watching]
        try:
            await asyncio.gather(*watching)
        finally:
            self._finished = True
            self._arrived.set()

    # --- what a worker asks ---

    def request_of(self, ticket: Ticket) -> tuple[InferenceRequest, str]:
        line = self._lines[ticket.index]
        line.in_flight = True
        return line.request, line.custom_id

    def keep(
        self, ticket: Ticket, request: InferenceRequest, answer: Answer, seconds: float
    ) -> None:
        self._lines[ticket.index].answer = answer

    async def record(self, outcome: Outcome) -> None:
        line = self._lines.get(outcome.index)
        if line is not None and line.answer is not None:
            self._tell(line, line.answer)
        while len(self._results) > _MOST_RESULTS:
            self._moved.clear()
            await self._moved.wait()

    def passed(self, lane: Lane, index: int) -> None:
        line = self._lines.get(index)
        if line is not None:
            line.in_flight = False
        if not lane.gate.whole:
            route = self._routes[id(lane.client)]
            if line is not None and lane.gate.is_shut(line.request.model):
                self._tell(line, line.answer or _not_sent(route, line))
            self._look_for_shut(route)

    # --- what is given up ---

    async def _watch(self, route: _Route) -> None:
        """Look after a lane, and tell what becomes of its lines when it is over."""
        lane = route.lane
        following = lane.follow() if self._options.concurrency is None else None
        tending = asyncio.ensure_future(tend(lane, self._options, self.clock))
        given_up, idle = (asyncio.ensure_future(e.wait()) for e in (lane.given_up, lane.idle))
        try:
            await asyncio.wait({given_up, idle}, return_when=asyncio.FIRST_COMPLETED)
            route.ahead.is_complete = True
            lane.more()
            await lane.wait()
        except Exception:
            # A fault of this program, which `finish` raises.
            self._give_up()
            raise
        finally:
            route.is_over = True
            if following is not None:
                following()
            for companion in (tending, given_up, idle):
                companion.cancel()
            await asyncio.gather(tending, given_up, idle, return_exceptions=True)
        for line in self._lines_of(lane.client):
            self._tell(line, line.answer or _not_sent(route, line))
        route.ahead.clear()
        self._look_for_hope()

    def _lines_of(self, client: InferenceClient) -> Sequence[StreamedLine]:
        return [one for one in self._lines.values() if self.client_for(one.request.model) is client]

    def _look_for_shut(self, route: _Route) -> None:
        """A line whose model was given up and that is not under way has no better result."""
        gate = route.lane.gate
        shut = gate.problems()
        if len(shut) == route.shut:
            return
        route.shut = len(shut)
        for line in self._lines_of(route.lane.client):
            if line.request.model in shut and not line.in_flight:
                self._tell(line, line.answer or _not_sent(route, line))
        self._look_for_hope()

    def _look_for_hope(self) -> None:
        routes = self._routes.values()
        if all(map(_is_lost, routes)) and len(routes) >= self._gateways:
            self._give_up()

    def _give_up(self) -> None:
        self.hopeless.set()
        self._moved.set()

    def problem(self) -> str:
        """Why gateways or models were given up; nothing where none was."""
        for route in self._routes.values():
            route.lane.models = tuple(route.models)
        return gateway_problem([route.lane for route in self._routes.values()]) or ""

    def unknown_models(self) -> list[str]:
        """The models that a gateway says it does not have."""
        return [name for one in self._routes.values() for name in one.lane.gate.unknown_models()]

    # --- results out ---

    def _tell(self, line: StreamedLine, answer: Answer) -> None:
        if line.is_told:
            return
        line.is_told = True
        self._bytes -= line.size
        if not line.is_ahead:
            del self._lines[line.index]
        self._push(line, answer)

    def _push(self, line: StreamedLine, answer: Answer) -> None:
        if isinstance(answer, InferenceResponse):
            self._results.append(BatchResult(line.index, line.custom_id, answer))
        else:
            self._results.append(BatchResult(line.index, line.custom_id, error=answer))
        self._arrived.set()
        self._moved.set()

    async def results(self) -> AsyncGenerator[BatchResult]:
        """Each as it comes, for one taker."""
        while True:
            while self._results:
                result = self._results.popleft()
                self._moved.set()
                yield result
            if self._finished:
                return
            self._arrived.clear()
            await self._arrived.wait()

    def cancel(self) -> None:
        """Cut off what is under way."""
        for route in self._routes.values():
            route.lane.cancel()

    async def aclose(self) -> None:
        """The same, and wait until it has ended."""
        self.cancel()
        watching = [route.watching for route in self._routes.values() if route.watching]
        await cut_off([route.lane for route in self._routes.values()], *watching)
        await asyncio.gather(*watching, return_exceptions=True)


def _is_lost(route: _Route) -> bool:
    lane = route.lane
    return lane.problem is not None or len(lane.gate.problems()) == len(route.models)


def _not_sent(route: _Route, line: StreamedLine) -> InferenceError:
    problems = route.lane.gate.problems()
    model = line.request.model
    words = route.lane.problem or problems.get(model) or "its gateway is not used any more"
    return CircuitOpenError(f"not sent: {words}", code="gateway_unusable")
