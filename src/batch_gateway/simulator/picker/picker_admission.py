"""Letting requests through to the pods: at once, in their turn, or not at all."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from batch_gateway.durations import parse_duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.simulator.answers.replies import LLMD_REFUSALS, RequestError
from batch_gateway.simulator.picker.chooser import PodChooser
from batch_gateway.simulator.picker.flow_control import (
    FlowControl,
    FlowLimits,
    Verdict,
    pool_saturation,
)
from batch_gateway.simulator.picker.incoming import IncomingRequest
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.wire.scheduling_headers import QUEUE_TTL

__all__ = ["Admission", "Ticket"]

# Pods have news that no request of ours brings; the real one looks every millisecond.
_LOOK_SECONDS = 0.005
_DEFAULT_FLOW = "default-flow"


class Ticket:
    """A request that was let through, until it is given back.

    Attributes:
        endpoints: where it goes, the chosen one first.
        queued_seconds: how long it waited; None without flow control.
        evicted: done when it has to make room; None where that cannot happen.
    """

    def __init__(
        self,
        endpoints: list[str],
        *,
        key: int | None = None,
        queued_seconds: float | None = None,
        evicted: asyncio.Future[None] | None = None,
    ) -> None:
        self.endpoints = endpoints
        self.key = key
        self.queued_seconds = queued_seconds
        self.evicted = evicted


class _Waiter(NamedTuple):
    request: IncomingRequest
    answer: asyncio.Future[Ticket]
    since: float


class Admission:
    """The gate of one picker: flow control, or without it the shedding of what may be shed."""

    def __init__(self, config: PickerConfig, chooser: PodChooser) -> None:
        self._config = config
        self._chooser = chooser
        self._flow = FlowControl(_limits(config))
        self._waiters: dict[int, _Waiter] = {}
        self._tickets: dict[int, Ticket] = {}
        self._next_key = 0
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def waiting(self) -> int:
        return self._flow.waiting

    def configure(self, config: PickerConfig) -> None:
        """Take over changed settings; whoever waits feels the new limits too."""
        self._config = config
        self._flow.limits = _limits(config)
        self._pump()

    # -- in and out ------------------------------------------------------------------------

    async def enter(self, request: IncomingRequest, priority: int, flow: str) -> Ticket:
        """Wait until it may go on, and say where to. Raises RequestError with the refusal."""
        if self._draining:
            raise RequestError(LLMD_REFUSALS["shutting-down"])
        if not self._chooser.loads(request.subset):
            raise RequestError(LLMD_REFUSALS["no-endpoints"])
        if self._config.flow_control:
            return await self._queue(request, priority, flow)
        if priority < 0 and self._saturation(request.subset, credit=False) >= 1.0:
            raise RequestError(LLMD_REFUSALS["shed"])
        return Ticket(self._place(request))

    def leave(self, ticket: Ticket) -> None:
        """The request is over, however it ended."""
        self._chooser.over(ticket.endpoints[0])
        if ticket.key is not None and self._tickets.pop(ticket.key, None) is not None:
            self._flow.over(ticket.key)
        self._pump()

    def enter_anywhere(self) -> Ticket:
        """For a request without a body. Raises RequestError when there is no pod."""
        endpoints = self._chooser.random_endpoints()
        if not endpoints:
            raise RequestError(LLMD_REFUSALS["no-endpoints"])
        self._chooser.begun(endpoints[0])
        return Ticket(endpoints)

    def drain(self) -> None:
        """Refuse whoever waits and whoever comes; what is under way goes on."""
        self._draining = True
        for key in self._flow.drain():
            self._refuse(key, "shutting-down")
        self._set_timer()

    def open(self) -> None:
        """Let requests in again."""
        self._draining = False

    # -- the queue -------------------------------------------------------------------------

    async def _queue(self, request: IncomingRequest, priority: int, flow: str) -> Ticket:
        self._next_key += 1
        key, now = self._next_key, time.monotonic()
        expires = now + self._ttl(request)
        if not self._flow.arrive(key, priority, flow or _DEFAULT_FLOW, expires):
            raise RequestError(LLMD_REFUSALS["saturated"])
        answer: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        self._waiters[key] = _Waiter(request, answer, now)
        self._pump()
        try:
            return await answer
        except asyncio.CancelledError:
            self._gave_up(key, answer)
            raise

    def _ttl(self, request: IncomingRequest) -> float:
        try:
            given = parse_duration(request.headers.get(QUEUE_TTL, ""))
        except ConfigError:
            given = 0.0
        return given or seconds(self._config.queue_ttl)

    def _gave_up(self, key: int, answer: asyncio.Future[Ticket]) -> None:
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            self.leave(answer.result())
            return
        self._waiters.pop(key, None)
        self._flow.over(key)

    def _pump(self) -> None:
        """Carry out all that flow control has to say at this moment."""
        while self._flow.waiting:
            step = self._flow.step(time.monotonic(), self._saturation(None, credit=True))
            if step is None:
                break
            if step.verdict is Verdict.DISPATCH:
                self._dispatch(step.key)
            elif step.verdict is Verdict.EXPIRE:
                self._refuse(step.key, "ttl-expired")
            else:
                self._evict(step.key)
        self._set_timer()

    def _dispatch(self, key: int) -> None:
        waiter = self._waiters.pop(key)
        if waiter.answer.done():
            # Its data plane has just left, which its task does not know yet.
            self._flow.over(key)
            return
        try:
            endpoints = self._place(waiter.request)
        except RequestError as refusal:
            self._flow.over(key)
            waiter.answer.set_exception(refusal)
            return
        ticket = Ticket(
            endpoints,
            key=key,
            queued_seconds=time.monotonic() - waiter.since,
            evicted=waiter.answer.get_loop().create_future(),
        )
        self._tickets[key] = ticket
        waiter.answer.set_result(ticket)

    def _evict(self, key: int) -> None:
        evicted = self._tickets[key].evicted
        if evicted is not None and not evicted.done():
            evicted.set_result(None)

    def _refuse(self, key: int, cause: str) -> None:
        waiter = self._waiters.pop(key)
        reply = LLMD_REFUSALS[cause]
        if cause == "ttl-expired":
            reply = reply._replace(status=self._config.ttl_status)
        if not waiter.answer.done():
            waiter.answer.set_exception(RequestError(reply))

    def _place(self, request: IncomingRequest) -> list[str]:
        endpoints = self._chooser.choose(request)
        if not endpoints:
            raise RequestError(LLMD_REFUSALS["no-endpoints"])
        self._chooser.begun(endpoints[0])
        return endpoints

    def _saturation(self, subset: frozenset[str] | None, *, credit: bool) -> float:
        return pool_saturation(self._chooser.loads(subset), self._flow.limits, credit=credit)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._flow.waiting:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._pump)


def _limits(config: PickerConfig) -> FlowLimits:
    return FlowLimits(
        queue_limit=config.queue_limit,
        queue_depth=config.queue_depth_threshold,
        kv_usage=config.kv_cache_threshold,
        evicts=config.eviction is not None,
    )
