"""What a run shows while it goes on: a live bar on a terminal, elsewhere a line every 10 s."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import IO, Protocol

import msgspec

from batch_gateway.cli.paces import Pace, PaceNotes, PaceWatch
from batch_gateway.cli.rates import (
    Rates,
    Snapshot,
    measure,
    seconds_left,
    standstill,
    with_snapshot,
)
from batch_gateway.cli.terminal_text import printable
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration

__all__ = [
    "Display",
    "LineDisplay",
    "NoDisplay",
    "View",
    "counted",
    "follow",
    "in_flight_text",
    "plain_line",
    "short_count",
    "time_left",
]

_LOOK_SECONDS = 1.0


class View(msgspec.Struct, frozen=True):
    """One moment of a run, ready to be shown.

    Attributes:
        standstill: why nothing moves, while nothing does.
        paces: why lines wait for their turn, for each gateway at which they do.
    """

    snapshot: Snapshot
    rates: Rates
    seconds_left: float | None = None
    standstill: str = ""
    paces: tuple[Pace, ...] = ()


class Display(Protocol):
    """Where progress goes.

    Attributes:
        interval: seconds between two calls of `show`.
    """

    interval: float

    def note(self, text: str) -> None:
        """A line that stays."""
        ...

    def checking(self, done: int, total: int) -> None:
        """The first pass has read `done` of `total` bytes."""
        ...

    def show(self, view: View) -> None: ...

    def close(self) -> None: ...

    def leave(self) -> None:
        """The process ends now: put the terminal right with one write."""
        ...


async def follow(read: Callable[[], Snapshot], display: Display, clock: Clock) -> None:
    """Show what `read` returns, until cancelled: in the display's time, a standstill at once."""
    moved = started = before = now = read()
    window: tuple[Snapshot, ...] = (started,)
    next_view, stood, watch = now.at, False, PaceWatch()
    while True:
        if now.done != moved.done:
            # What failed since the look before may have failed after the last one was done.
            moved = msgspec.structs.replace(now, failed_attempts=before.failed_attempts)
        why, paces = standstill(moved, now), watch.look(now.paces, now.at)
        if now.at >= next_view or (why and not stood):
            left = None if why else seconds_left(window, started)
            display.show(View(now, measure(window[0], now), left, why, paces))
            next_view = now.at + display.interval
        stood = bool(why)
        await clock.sleep(min(display.interval, _LOOK_SECONDS))
        before = now
        now = read()
        window = with_snapshot(window, now)


def plain_line(view: View) -> str:
    """A view as one line without colours."""
    now = view.snapshot
    parts = [f"{now.done:,} of {now.total:,} done"]
    if now.failed:
        parts.append(f"{now.failed:,} failed")
    parts.append(in_flight_text(now))
    if now.retries:
        parts.append(counted(now.retries, "retry", "retries"))
    parts.append(f"{view.rates.requests:,.1f} requests/s")
    if now.tokens:
        parts.append(f"{short_count(view.rates.tokens)} tokens/s")
    return ", ".join(filter(None, (*parts, time_left(view), view.standstill)))


def in_flight_text(now: Snapshot) -> str:
    """How many requests there are, and whether it is their bytes that allow no more."""
    return f"{now.in_flight:,} in flight" + (" (no room for more bytes)" * now.short_of_room)


def time_left(view: View) -> str:
    """How long the rest takes, "stopping", or "" while nothing says."""
    if view.snapshot.stopping:
        return "stopping"
    if view.seconds_left is None or not view.snapshot.left:
        return ""
    if view.seconds_left < 60:
        return f"{max(1, round(view.seconds_left))}s left"
    return f"{format_duration(view.seconds_left)} left"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with what it counts: "1 request", "2,000 requests"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def short_count(value: float) -> str:
    """Three or four significant digits: "950", "8,231", "10.4k", "1.25M"."""
    if value < 10_000:
        return f"{value:,.0f}"
    if value < 1_000_000:
        return f"{value / 1000:.1f}k"
    return f"{value / 1_000_000:.2f}M"


class NoDisplay:
    """For `--quiet`."""

    interval = 10.0

    def note(self, text: str) -> None:
        pass

    def checking(self, done: int, total: int) -> None:
        pass

    def show(self, view: View) -> None:
        pass

    def close(self) -> None:
        pass

    def leave(self) -> None:
        pass


class LineDisplay:
    """Plain lines, for logs and pipes."""

    interval = 10.0

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._begun = False
        self._pace_notes = PaceNotes()

    def note(self, text: str) -> None:
        # Whoever read our messages may be gone; the run does not depend on them.
        with contextlib.suppress(OSError, ValueError):
            print(printable(text), file=self._stream, flush=True)

    def checking(self, done: int, total: int) -> None:
        pass

    def show(self, view: View) -> None:
        # The first view is that of the start, when there is nothing to tell.
        if self._begun:
            self.note(plain_line(view))
            for words in self._pace_notes.new(view.paces):
                self.note(words)
        self._begun = True

    def close(self) -> None:
        pass

    def leave(self) -> None:
        pass
