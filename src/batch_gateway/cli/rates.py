"""How fast a run is going: pure functions over snapshots of its counters."""

from __future__ import annotations

import msgspec

from batch_gateway.cli.paces import GatewayPace
from batch_gateway.durations import format_duration

__all__ = [
    "WINDOW_SECONDS",
    "Rates",
    "Snapshot",
    "measure",
    "seconds_left",
    "standstill",
    "with_snapshot",
]

WINDOW_SECONDS = 30.0
STANDSTILL_SECONDS = 10.0


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The counters of a run at one moment.

    Attributes:
        at: seconds on a monotonic clock.
        total: lines of the input.
        done_before: lines that are not sent in this run because of earlier results.
        succeeded, failed: lines recorded in this run.
        in_flight: lines being sent, retries and their waits included.
        retries: sendings after the first, in this run.
        tokens: of this run's answers, prompts included.
        short_of_room: lines wait because of the bytes that are under way.
        stopping: nothing new is sent any more.
        paces: how many may be under way at each gateway, and why no more.
        failed_attempts, last_failure: sendings that failed, be they tried again or not, and the
            words of the last one.
    """

    at: float
    total: int
    done_before: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    retries: int = 0
    tokens: int = 0
    stopping: bool = False
    short_of_room: bool = False
    paces: tuple[GatewayPace, ...] = ()
    failed_attempts: int = 0
    last_failure: str = ""

    @property
    def done(self) -> int:
        return self.done_before + self.succeeded + self.failed

    @property
    def left(self) -> int:
        return self.total - self.done


class Rates(msgspec.Struct, frozen=True):
    """What happened between two snapshots, a second."""

    requests: float = 0.0
    tokens: float = 0.0


def standstill(moved: Snapshot, now: Snapshot) -> str:
    """Why nothing has been done since `moved`, or "" while that is not long ago."""
    seconds = now.at - moved.at
    if seconds < STANDSTILL_SECONDS or not now.left or now.stopping:
        return ""
    lasted = f"{round(seconds)}s" if seconds < 60 else format_duration(round(seconds))
    text = f"nothing done for {lasted}"
    failed = now.failed_attempts - moved.failed_attempts
    if not failed or not now.last_failure:
        return f"{text}; no answer yet" if now.in_flight else text
    times = "" if failed == 1 else f" ({failed:,} times)"
    return f"{text}; the gateway: {now.last_failure}{times}"


def with_snapshot(
    window: tuple[Snapshot, ...], snapshot: Snapshot, seconds: float = WINDOW_SECONDS
) -> tuple[Snapshot, ...]:
    """`window` with one more, and without those that are no longer needed to span `seconds`."""
    start = snapshot.at - seconds
    first_needed = max((index for index, kept in enumerate(window) if kept.at <= start), default=0)
    return (*window[first_needed:], snapshot)


def measure(first: Snapshot, last: Snapshot) -> Rates:
    """Rates between two snapshots; zero when no time passed."""
    elapsed = last.at - first.at
    if elapsed <= 0:
        return Rates()
    return Rates((last.done - first.done) / elapsed, (last.tokens - first.tokens) / elapsed)


def seconds_left(window: tuple[Snapshot, ...], started: Snapshot) -> float | None:
    """How long the rest takes at the present rate; None while nothing says.

    When nothing finished within the window, as with answers that take minutes, the rate of the
    whole run since `started` counts.
    """
    last = window[-1]
    rate = measure(window[0], last).requests or measure(started, last).requests
    return last.left / rate if rate > 0 else None
