"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


_LONGEST_REAL_WAIT = 20.0


class _JumpingSelector(selectors.SelectSelector):
    """Finds nothing to read? Then it is already as late as somebody wanted to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.stands_still = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.stands_still and timeout != 0:
            events = super().select(_LONGEST_REAL_WAIT)
            assert events, "another thread is waited for, and does nothing"
            return events
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError("every task waits and no timer is set: a deadlock")
            self.now += max(0.0, timeout)
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Everything that sleeps or has a timeout on this loop takes no time, in the right order."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    @contextmanager
    def standing_still(self) -> Generator[None]:
        """Within this, what comes from other threads is waited for before any time passes."""
        self._jumping.stands_still += 1
        try:
            yield
        finally:
            self._jumping.stands_still -= 1

    def run_in_executor(
        self, executor: Any, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """What a thread does takes no time either."""
        job = super().run_in_executor(executor, func, *args)
        self._jumping.stands_still += 1
        job.add_done_callback(self._has_ended)
        return job

    def _has_ended(self, job: asyncio.Future[Any]) -> None:
        self._jumping.stands_still -= 1

    async def shutdown_default_executor(self, *timeout: Any, **named: Any) -> None:
        with self.standing_still():
            await super().shutdown_default_executor(*timeout, **named)

    def jump(self, seconds: float) -> None:
        """The machine was asleep."""
        self._jumping.now += seconds


class LoopClock:
    """A `Clock` that agrees with the running loop."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall_time(self) -> float:
        return 1_793_577_600.0 + self.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
