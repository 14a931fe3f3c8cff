"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Finds nothing to read? Then it is already as late as somebody wanted to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.settle: list[Callable[[], bool]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        for settle in self.settle:
            # What it brought is to be looked at before time passes.
            timeout = 0.0 if settle() else timeout
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

    def settle_first(self, settle: Callable[[], bool]) -> None:
        """Call this before any time passes: it waits for what other threads owe, so that they
        take no time either. It returns whether there was anything."""
        self._jumping.settle.append(settle)

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
