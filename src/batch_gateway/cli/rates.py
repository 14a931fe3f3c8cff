"""How fast a run is going: pure functions over marks of how far it was."""

from __future__ import annotations

import msgspec

from batch_gateway.durations import format_duration

__all__ = [
    "WINDOW_SECONDS",
    "Mark",
    "Rates",
    "measure",
    "standstill",
    "with_mark",
]

WINDOW_SECONDS = 30.0
STANDSTILL_SECONDS = 10.0


class Mark(msgspec.Struct, frozen=True):
    """How far a run was at one moment.

    Attributes:
        at: seconds on a monotonic clock.
        done: lines with a result.
        tokens: of this run's answers, prompts included.
        failed_attempts: sendings that failed, be they tried again or not.
    """

    at: float
    done: int = 0
    tokens: int = 0
    failed_attempts: int = 0


class Rates(msgspec.Struct, frozen=True):
    """What happened between two marks, a second."""

    requests: float = 0.0
    tokens: float = 0.0


def standstill(moved: Mark, now: Mark, in_flight: int, last_failure: str) -> str:
    """Why nothing has been done since `moved`, or "" while that is not long ago."""
    seconds = now.at - moved.at
    if seconds < STANDSTILL_SECONDS:
        return ""
    lasted = f"{round(seconds)}s" if seconds < 60 else format_duration(round(seconds))
    text = f"nothing done for {lasted}"
    failed = now.failed_attempts - moved.failed_attempts
    if not failed or not last_failure:
        return f"{text}; no answer yet" if in_flight else text
    times = "" if failed == 1 else f" ({failed:,} times)"
    return f"{text}; the gateway: {last_failure}{times}"


def with_mark(
    window: tuple[Mark, ...], mark: Mark, seconds: float = WINDOW_SECONDS
) -> tuple[Mark, ...]:
    """`window` with one more, and without those that are no longer needed to span `seconds`."""
    start = mark.at - seconds
    first_needed = max((index for index, kept in enumerate(window) if kept.at <= start), default=0)
    return (*window[first_needed:], mark)


def measure(first: Mark, last: Mark) -> Rates:
    """Rates between two marks; zero when no time passed."""
    elapsed = last.at - first.at
    if elapsed <= 0:
        return Rates()
    return Rates((last.done - first.done) / elapsed, (last.tokens - first.tokens) / elapsed)
