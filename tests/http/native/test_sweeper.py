"""One timer for many deadlines, on a loop whose time the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from batch_gateway.http.sweeper import Sweeper

NEVER = float("inf")


class Loop:
    """The part of an event loop that a sweeper uses, with time that stands still."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[tuple[float, Callable[[], None], Handle]] = []
        self.ever = 0

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.ever += 1
        handle = Handle()
        self.timers.append((self.now + delay, callback, handle))
        return handle

    def time(self) -> float:
        return self.now

    def pending(self) -> list[float]:
        return sorted(at for at, _, handle in self.timers if not handle.cancelled)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while due := [timer for timer in self.timers if timer[0] <= until]:
            timer = min(due, key=lambda timer: timer[0])
            self.timers.remove(timer)
            self.now = max(self.now, timer[0])
            if not timer[2].cancelled:
                timer[1]()
        self.now = until


class Handle:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Deadlines:
    """What is swept: a set of times; sweeping removes the ones that are due."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.swept_at: list[float] = []

    def sweep(self, now: float) -> float:
        self.swept_at.append(now)
        self.times = [time for time in self.times if time > now]
        return min(self.times, default=NEVER)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_many_deadlines_take_one_timer(loop: Loop) -> None:
    deadlines = Deadlines()
    sweeper = Sweeper(deadlines.sweep, loop.time)
    for number in range(1000):
        deadlines.times.append(loop.now + 300 + number)
        sweeper.arm(deadlines.times[-1])
    assert loop.ever == 1
    loop.advance(300)
    assert deadlines.swept_at == [1300.0]
    assert loop.pending() == [1301.0]


def test_an_earlier_deadline_is_in_time(loop: Loop) -> None:
    deadlines = Deadlines()
    sweeper = Sweeper(deadlines.sweep, loop.time)
    for at in (1300.0, 1000.05):
        deadlines.times.append(at)
        sweeper.arm(at)
    loop.advance(0.05)
    assert deadlines.times == [1300.0]
    assert loop.pending() == [1300.0]


def test_deadlines_close_together_are_swept_at_a_distance(loop: Loop) -> None:
    deadlines = Deadlines()
    sweeper = Sweeper(deadlines.sweep, loop.time)
    deadlines.times = [1001 + number / 1000 for number in range(100)]
    sweeper.arm(1001.0)
    loop.advance(2)
    assert deadlines.times == []
    assert len(deadlines.swept_at) <= 12


def test_a_timer_that_fires_early_is_set_again(loop: Loop) -> None:
    deadlines = Deadlines()
    sweeper = Sweeper(deadlines.sweep, loop.time)
    deadlines.times = [1010.0]
    sweeper.arm(1010.0)
    _, wake, _ = loop.timers.pop()
    loop.now = 1009.9995  # uvloop rounds to milliseconds
    wake()
    assert deadlines.times == [1010.0]
    loop.advance(0.02)
    assert deadlines.times == []


def test_nothing_is_left_when_there_is_nothing_to_wait_for(loop: Loop) -> None:
    deadlines = Deadlines()
    sweeper = Sweeper(deadlines.sweep, loop.time)
    sweeper.arm(NEVER)
    assert loop.pending() == []
    sweeper.arm(1001.0)
    loop.advance(5)
    assert loop.pending() == []
    sweeper.arm(1010.0)
    sweeper.stop()
    assert loop.pending() == []
