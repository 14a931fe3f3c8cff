"""Permits in order of arrival, as many as a controller's limit."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from batch_gateway.clock import Clock
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.reasons import Why

__all__ = ["Controller", "FixedController", "Permits"]


class Controller(Protocol):
    """What decides how many requests may be under way."""

    @property
    def limit(self) -> int: ...

    @property
    def allowed_now(self) -> int:
        """How many just now: the limit, or fewer for a moment, which nobody is told of."""
        ...

    @property
    def in_flight(self) -> int: ...

    @property
    def paused_until(self) -> float:
        """Monotonic seconds before which nothing is sent."""
        ...

    @property
    def why(self) -> Why | None:
        """What holds the limit where it is, the same object until that changes; None if unknown."""
        ...

    def started(self, now: float) -> Started: ...

    def finished(self, started: Started, ended: Ended, now: float) -> None: ...

    def first_token(self, started: Started, seconds: float, now: float) -> None: ...

    def look(self, now: float) -> None:
        """A pause is over; the limit may have changed with it."""
        ...


class FixedController:
    """The same number always."""

    paused_until = 0.0
    why = None

    def __init__(self, limit: int) -> None:
        self.limit = self.allowed_now = limit
        self.in_flight = 0

    def started(self, now: float) -> Started:
        self.in_flight += 1
        return Started(now, 0.0, self.in_flight)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self.in_flight -= 1

    def first_token(self, started: Started, seconds: float, now: float) -> None:
        """Of no use here."""

    def look(self, now: float) -> None:
        """There is no pause."""


class Permits:
    """Hands out permits, first come, first served. Belongs to one event loop."""

    def __init__(self, controller: Controller, clock: Clock) -> None:
        self._controller = controller
        self._clock = clock
        self._queue: deque[asyncio.Future[Started]] = deque()
        self._waker: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return sum(not waiter.done() for waiter in self._queue)

    @property
    def waited_for(self) -> bool:
        """Whether anybody was waiting when permits were last given."""
        return bool(self._queue)

    def acquire_nowait(self) -> Started | None:
        """A permit, when there is one for who comes last."""
        if self._queue:
            return None
        now = self._clock.monotonic()
        controller = self._controller
        if controller.in_flight >= controller.allowed_now or now < controller.paused_until:
            return None
        return controller.started(now)

    async def acquire(self) -> Started:
        """Wait for a permit. Cancelling the wait gives its place, or its permit, to the next."""
        started = self.acquire_nowait()
        if started is not None:
            return started
        waiter: asyncio.Future[Started] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        self.grant()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.release(waiter.result(), Ended(Outcome.ABANDONED))
            raise

    def release(self, started: Started, ended: Ended) -> float:
        """Give a permit back. Returns when that was, in monotonic seconds."""
        now = self._clock.monotonic()
        self._controller.finished(started, ended, now)
        if self._queue:
            self.grant()
        return now

    def grant(self) -> None:
        """Give permits to those who wait, as far as the limit goes."""
        while self._queue:
            if self._queue[0].done():
                self._queue.popleft()
                continue
            now = self._clock.monotonic()
            controller = self._controller
            if controller.in_flight >= controller.allowed_now or now < controller.paused_until:
                self._wake_after_pause(now)
                return
            self._queue.popleft().set_result(controller.started(now))

    def _wake_after_pause(self, now: float) -> None:
        pause = self._controller.paused_until - now
        if pause > 0 and (self._waker is None or self._waker.done()):
            self._waker = asyncio.create_task(self._wake(pause))

    async def _wake(self, pause: float) -> None:
        await self._clock.sleep(pause)
        # A new task may be needed when the pause has become longer meanwhile.
        self._waker = None
        self._controller.look(self._clock.monotonic())
        self.grant()

    async def aclose(self) -> None:
        """End every wait."""
        if self._waker is not None:
            self._waker.cancel()
            await asyncio.gather(self._waker, return_exceptions=True)
        for waiter in self._queue:
            waiter.cancel()
        self._queue.clear()
