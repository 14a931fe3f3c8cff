"""How far a run is, for a program that shows it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.progress import RunStats

__all__ = ["TELL_SECONDS", "RunProgress", "ShowProgress", "tell_progress"]

TELL_SECONDS = 10.0


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One moment of a run. As text it is one line.

    Attributes:
        total: lines of the input; 0 while it is being checked.
        done: lines that have a result, those of earlier runs included.
        in_flight: lines being sent, retries and their waits included.
        seconds: since the first line was sent.
        stopping: nothing new is sent any more.
        figures: what this run's lines have come to.
        seconds_left: how long the rest takes; None while nobody can know.
    """

    total: int
    done: int
    in_flight: int
    seconds: float
    stopping: bool
    figures: Figures
    seconds_left: float | None = None

    @classmethod
    def of(cls, stats: RunStats, now: float) -> RunProgress:
        """What `stats` say at `now`, monotonic seconds."""
        return cls(
            total=stats.total,
            done=stats.done,
            in_flight=stats.in_flight,
            seconds=now - stats.started if stats.started else 0.0,
            stopping=stats.stopping,
            figures=Figures() + stats.figures,
            seconds_left=stats.seconds_left(now),
        )

    @property
    def requests_per_second(self) -> float:
        """Lines that this run finished, for each second of it."""
        return self.figures.finished / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        parts = [f"{self.done:,} of {self.total:,} done"]
        if self.figures.failed:
            parts.append(f"{self.figures.failed:,} failed")
        parts += [f"{self.in_flight:,} in flight", f"{self.requests_per_second:,.1f} requests/s"]
        left = self.seconds_left
        if self.stopping and self.done < self.total:
            parts.append("stopping")
        elif left:
            parts.append(f"{format_duration(max(1, round(left)))} left")
        return ", ".join(parts)


ShowProgress = Callable[[RunProgress], object]
"""Is given how far the run is: `print` will do."""


async def tell_progress(
    stats: RunStats, show: ShowProgress, clock: Clock, every: float = TELL_SECONDS
) -> None:
    """Call `show` when the run begins, every so many seconds, and when it ends by cancellation."""
    try:
        while True:
            show(RunProgress.of(stats, clock.monotonic()))
            await clock.sleep(every)
    except asyncio.CancelledError:
        show(RunProgress.of(stats, clock.monotonic()))
        raise
