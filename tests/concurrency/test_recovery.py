"""What failures do to the limit, and how soon it is back when they end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from batch_gateway import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.server_load import Advice
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.policies import Ours
from benchmarks.worlds.simulation import simulate
from tests.concurrency.small_server import SmallServer, Weather

OK = Ended(Outcome.OK, tokens=50)
RESET = Ended(Outcome.UNREACHABLE)


class Line:
    """Keeps as many under way as the controller allows, on a clock of its own."""

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self.controller = AdaptiveController(policy)
        self.under_way: list[Started] = []
        self.now = 0.0

    def send(self) -> None:
        while self.controller.in_flight < self.controller.limit:
            self.under_way.append(self.controller.started(self.now))

    def end(self, ended: Ended) -> None:
        self.controller.finished(self.under_way.pop(0), ended, self.now)

    def end_all(self, ended: Ended) -> None:
        while self.under_way:
            self.end(ended)

    def serve(self, latency: float, seconds: float) -> Iterator[int]:
        """Every answer takes as long; yields the limit at each."""
        until = self.now + seconds
        while self.now < until:
            self.send()
            self.now = max(self.now, self.under_way[0].at + latency)
            self.end(OK)
            yield self.controller.limit


def test_everything_in_flight_that_fails_at_one_instant_halves_the_limit_once() -> None:
    line = Line(AdaptiveConcurrency(initial=200, maximum=200))
    list(line.serve(1.0, 10))
    line.send()
    before = line.controller.limit
    line.end_all(RESET)
    assert line.controller.limit > 0.45 * before


def test_failures_without_any_delay_do_not_bring_the_limit_down_at_once() -> None:
    line = Line(AdaptiveConcurrency(initial=200, maximum=200))
    list(line.serve(1.0, 10))
    before = line.controller.limit
    for _ in range(50):
        line.send()
        line.end_all(RESET)
    assert line.controller.limit > 0.45 * before


def test_a_gateway_that_only_fails_is_sent_less_and_less() -> None:
    line = Line(AdaptiveConcurrency(initial=200, maximum=200))
    for _ in range(600):
        line.send()
        line.now += 0.1
        line.end_all(RESET)
    assert line.controller.limit <= 2


@pytest.mark.parametrize("latency", [0.05, 1.0])
def test_the_limit_is_back_within_a_few_answers_of_the_first(latency: float) -> None:
    line = Line(AdaptiveConcurrency(maximum=200))
    list(line.serve(latency, 60 * latency + 10))
    before = line.controller.limit
    for _ in range(600):
        line.send()
        line.now += 0.1
        line.end_all(RESET)
    assert max(line.serve(latency, 6 * latency + 1)) >= 0.9 * before


def test_a_limit_of_one_is_no_dead_end() -> None:
    line = Line(AdaptiveConcurrency(initial=1, maximum=100))
    assert max(line.serve(0.5, 60)) > 50
    # Wherever it comes from.
    line = Line(AdaptiveConcurrency(maximum=100))
    for _ in range(600):
        line.send()
        line.now += 0.1
        line.end_all(RESET)
    assert max(line.serve(0.5, 60)) > 50


@pytest.mark.parametrize("errors", [0.0, 0.01])
@pytest.mark.parametrize("streamed", [False, True])
def test_an_outage_that_cuts_everything_off_is_over_within_ten_seconds(
    errors: float, streamed: bool
) -> None:
    world = replace(WORLDS["outage"], duration=120.0, errors=errors)
    ours = simulate(world, Ours(sees_first_token=streamed))
    assert ours.lost == 0
    before = ours.tokens_by_bin[int(50 / 0.5) : int(58 / 0.5)]
    after = ours.tokens_by_bin[int(80 / 0.5) : int(100 / 0.5)]
    assert sum(after) / len(after) > 0.9 * sum(before) / len(before)


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("jitter", [0.05, 0.2])
def test_what_a_deep_cut_by_metrics_took_is_back_within_seconds_of_its_end(
    alike: bool, jitter: float
) -> None:
    server = SmallServer(AdaptiveConcurrency(), seed=1)
    second = Weather(1.0, seats=100, latency=0.3, growth=0.004, alike=alike, jitter=jitter)
    for number in range(40):
        if number >= 30:
            server.controller.advise(Advice(most=4.0), server.now)
        server.live(second)
    assert server.controller.limit <= 4
    server.controller.advise(Advice(), server.now)
    limits: list[int] = []
    for _ in range(12):
        server.live(second)
        limits.append(server.controller.limit)
    assert max(limits) >= 80
