"""What is shown while nothing moves: the gateway's words instead of an estimate."""

from __future__ import annotations

import io

import pytest

from batch_gateway.cli.progress_display import (
    Display,
    Gateways,
    LineDisplay,
    View,
    follow,
    plain_line,
)
from batch_gateway.engine.progress import RunStats
from tests.client.manual_clock import ManualClock
from tests.engine.lines_under_way import sending

pytestmark = pytest.mark.anyio


class OverError(Exception):
    """The end of what is followed."""


class Kept(Display):
    """Keeps what is shown, once a second."""

    interval = 1.0

    def __init__(self) -> None:
        self.views: list[View] = []

    def show(self, view: View) -> None:
        self.views.append(view)


async def views(done: dict[int, int], failed: int, words: str) -> list[View]:
    """A run of 100 lines over 30 seconds, of which so many are done from some second on."""
    shown, run = Kept(), RunStats(total=100, time_left=sending(8))

    def look() -> Gateways:
        second = len(shown.views)
        if second == 30:
            raise OverError
        run.figures.succeeded = max((n for at, n in done.items() if at <= second), default=0)
        return Gateways(failed_attempts=failed * second, last_failure=words)

    with pytest.raises(OverError):
        await follow(run, look, shown, ManualClock())
    return shown.views


async def test_after_ten_seconds_it_says_what_the_gateway_says_and_estimates_nothing() -> None:
    shown = await views({0: 0, 5: 40, 25: 60}, failed=3, words="HTTP 429: slow down")
    assert shown[10].standstill == ""
    assert shown[8].seconds_left is not None
    assert shown[16].standstill == (
        "nothing done for 11s; the gateway: HTTP 429: slow down (36 times)"
    )
    assert shown[16].seconds_left is None
    line = plain_line(shown[16])
    assert line.endswith("HTTP 429: slow down (36 times)")
    assert "left" not in line
    # It moves again.
    assert shown[25].standstill == ""
    assert shown[25].seconds_left is not None


async def test_a_slow_gateway_that_refuses_nothing_is_told_apart() -> None:
    shown = await views({0: 0}, failed=0, words="")
    assert shown[9].standstill == ""
    assert shown[15].standstill == "nothing done for 15s; no answer yet"


async def test_a_standstill_is_told_when_it_begins_also_between_two_lines_of_a_log() -> None:
    clock, log = ManualClock(), io.StringIO()
    began, run = clock.monotonic(), RunStats(total=100, time_left=sending(8))

    def look() -> Gateways:
        elapsed = clock.monotonic() - began
        if elapsed > 19:
            raise OverError
        run.figures.succeeded = min(int(elapsed), 3)
        # Right after the last answer.
        failed = 8 * (elapsed >= 3)
        return Gateways(failed_attempts=failed, last_failure="HTTP 429: come back in an hour")

    with pytest.raises(OverError):
        await follow(run, look, LineDisplay(log), clock)
    [early, told] = log.getvalue().splitlines()
    assert "nothing done" not in early
    assert told.endswith(
        "nothing done for 10s; the gateway: HTTP 429: come back in an hour (8 times)"
    )
