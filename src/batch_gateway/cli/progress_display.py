"""What a run shows while it goes on: a live bar on a terminal, elsewhere a line every 10 s."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import IO

import msgspec
from msgspec.structs import replace

from batch_gateway.cli.paces import GatewayPace, Pace, PaceNotes, PaceWatch
from batch_gateway.cli.rates import Mark, Rates, measure, standstill, with_mark
from batch_gateway.cli.terminal_text import printable
from batch_gateway.clock import Clock
from batch_gateway.durations import format_duration
from batch_gateway.engine.progress import RunStats
from batch_gateway.report.scales import number_text

__all__ = [
    "Display",
    "Gateways",
    "LineDisplay",
    "View",
    "counted",
    "follow",
    "in_flight_text",
    "plain_line",
    "time_left",
]

_LOOK_SECONDS = 1.0


class Gateways(msgspec.Struct, frozen=True):
    """What the clients of a run's gateways say just now.

    Attributes:
        paces: how many may be under way at each gateway, and why no more.
        failed_attempts, last_failure: sendings that failed, be they tried again or not, at the
            gateway where most did, and the words of the last one.
    """

    paces: tuple[GatewayPace, ...] = ()
    failed_attempts: int = 0
    last_failure: str = ""


class View(msgspec.Struct, frozen=True):
    """One moment of a run, ready to be shown.

    Attributes:
        in_flight: lines at the gateways; those that wait for their turn are not.
        standstill: why nothing moves, while nothing does.
        paces: why lines wait for their turn, for each gateway at which they do.
    """

    run: RunStats
    rates: Rates
    in_flight: int = 0
    seconds_left: float | None = None
    standstill: str = ""
    paces: tuple[Pace, ...] = ()


class Display:
    """Where progress goes; this one shows nothing, as `--quiet` asks for.

    Attributes:
        interval: seconds between two calls of `show`.
    """

    interval = 10.0

    def note(self, text: str) -> None:
        """A line that stays."""

    def checking(self, done: int, total: int) -> None:
        """The first pass has read `done` of `total` bytes."""

    def show(self, view: View) -> None: ...

    def step(self, words: str, share: float | None) -> None:
        """Something else than a run is so far: `share` from 0 to 1, or None if nobody knows."""

    def close(self) -> None: ...

    def leave(self) -> None:
        """The process ends now: put the terminal right with one write."""


async def follow(
    run: RunStats, look: Callable[[], Gateways], display: Display, clock: Clock
) -> None:
    """Show a run until cancelled: in the display's time, a standstill at once."""
    gateways = look()
    now: Mark = _mark(run, gateways, clock)
    moved: Mark = now
    before: Mark = now
    window: tuple[Mark, ...] = (now,)
    next_view, stood, watch = now.at, False, PaceWatch()
    while True:
        if now.done != moved.done:
            # What failed since the look before may have failed after the last one was done.
            moved = replace(now, failed_attempts=before.failed_attempts)
        in_flight = min(
            run.in_flight, sum(pace.figures.limit for pace in gateways.paces) or run.in_flight
        )
        why, paces = "", watch.look(gateways.paces, now.at)
        if run.left and not run.stopping:
            why = standstill(moved, now, in_flight, gateways.last_failure)
        if now.at >= next_view or (why and not stood):
            rates, left = measure(window[0], now), run.seconds_left(now.at)
            display.show(View(run, rates, in_flight, None if why else left, why, paces))
            next_view = now.at + display.interval
        stood = bool(why)
        await clock.sleep(min(display.interval, _LOOK_SECONDS))
        before, gateways = now, look()
        now = _mark(run, gateways, clock)
        run.look(now.at)
        window = with_mark(window, now)


def _mark(run: RunStats, gateways: Gateways, clock: Clock) -> Mark:
    tokens = run.figures.usage.total_tokens
    return Mark(clock.monotonic(), run.done, tokens, gateways.failed_attempts)


def plain_line(view: View) -> str:
    """A view as one line without colours."""
    run, figures = view.run, view.run.figures
    parts = [f"{run.done:,} of {run.total:,} done"]
    if figures.failed:
        parts.append(f"{figures.failed:,} failed")
    parts.append(in_flight_text(view))
    if figures.retries:
        parts.append(counted(figures.retries, "retry", "retries"))
    parts.append(f"{view.rates.requests:,.1f} requests/s")
    if figures.usage.total_tokens:
        parts.append(f"{number_text(view.rates.tokens)} tokens/s")
    return ", ".join(filter(None, (*parts, time_left(view), view.standstill)))


def in_flight_text(view: View) -> str:
    """How many requests there are, and whether it is their bytes that allow no more."""
    short_of_room = " (no room for more bytes)" if view.run.is_short_of_room else ""
    return f"{view.in_flight:,} in flight{short_of_room}"


def time_left(view: View) -> str:
    """How long the rest takes, "stopping", or "" while nothing says."""
    if view.run.stopping:
        return "stopping"
    if view.seconds_left is None or not view.run.left:
        return ""
    if view.seconds_left < 60:
        return f"{max(1, round(view.seconds_left))}s left"
    return f"{format_duration(view.seconds_left)} left"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with what it counts: "1 request", "2,000 requests"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class LineDisplay(Display):
    """Plain lines, for logs and pipes."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._begun = False
        self._pace_notes = PaceNotes()

    def note(self, text: str) -> None:
        # Whoever read our messages may be gone; the run does not depend on them.
        with contextlib.suppress(OSError, ValueError):
            print(printable(text), file=self._stream, flush=True)

    def step(self, words: str, share: float | None) -> None:
        self.note(words)

    def show(self, view: View) -> None:
        # The first view is that of the start, when there is nothing to tell.
        if self._begun:
            self.note(plain_line(view))
            for words in self._pace_notes.new(view.paces):
                self.note(words)
        self._begun = True
