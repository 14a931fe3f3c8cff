"""Of an outage it is told when it begins and when it is over; of what flickers once a minute."""

from __future__ import annotations

import logging

import pytest

from batch_gateway.storage.outage_log import OutageLog
from tests.client.manual_clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(start=0.0)


@pytest.fixture
def outage(clock: ManualClock) -> OutageLog:
    return OutageLog("the database", logging.getLogger("batch_gateway.test"), clock)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_what_works_is_not_worth_a_word(
    outage: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    outage.over()
    assert told(caplog) == []


def test_each_kind_of_trouble_is_one_line_however_long_it_lasts(
    outage: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(1000):
        clock.advance(1)
        outage.met("nobody listens there" if number < 500 or number % 2 else "it is starting up")
    assert told(caplog) == ["nobody listens there", "it is starting up"]
    clock.advance(1)
    for _ in range(3):
        outage.over()
    assert told(caplog) == ["the database is back after 16m40s"]


def test_what_comes_and_goes_is_told_of_once_a_minute(
    outage: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(600):
        clock.advance(0.1)
        outage.met("too many connections")
        outage.over()
    assert len(told(caplog)) == 2
    clock.advance(1)
    outage.met("too many connections")
    assert told(caplog) == ["too many connections"]


def test_what_came_and_went_and_then_stays_is_told_when_the_minute_is_over(
    outage: OutageLog, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    outage.met("too many connections")
    outage.over()
    assert len(told(caplog)) == 2
    clock.now = 10
    for _ in range(1000):
        outage.met("too many connections")
        assert told(caplog) == (["too many connections"] if clock.now == 60 else [])
        clock.advance(1)
    outage.over()
    assert told(caplog) == ["the database is back after 16m40s"]


def test_another_trouble_is_told_at_once(
    outage: OutageLog, caplog: pytest.LogCaptureFixture
) -> None:
    outage.met("too many connections")
    outage.over()
    outage.met("it is starting up")
    outage.over()
    words = ["too many connections", "it is starting up"]
    assert [one for one in told(caplog) if "back" not in one] == words


def test_words_without_end_fill_no_log(outage: OutageLog, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(1000):
        outage.met(f"trouble {number}")
    assert len(told(caplog)) == 16
