"""How many pay: what rounds of a server with a known knee make of the level."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.concurrency.finder import Finder, Shown, State
from batch_gateway.concurrency.reasons import Reason
from batch_gateway.concurrency.rounds import Reading

Server = Callable[[float], tuple[float, float]]


def knee(seats: float, growth: float = 0.0, slower: float = 1.0) -> Server:
    """Latency and the share that waits, at so many in flight."""

    def answer(in_flight: float) -> tuple[float, float]:
        served = min(in_flight, seats)
        service = slower * (1 + growth * served)
        return service * in_flight / served, 1 - served / in_flight

    return answer


def finder(initial: int = 16, maximum: int = 10_000) -> Finder:
    return Finder(0.15, initial, 1, maximum)


class Rounds:
    """Round after round at the level of a finder, each a little off by chance."""

    def __init__(self, found: Finder, *, noise: float = 0.0, waits: bool = True) -> None:
        self.finder = found
        self._noise = noise
        self._waits = waits
        self._chance = random.Random(1)

    def round(self, server: Server, in_flight: float | None = None) -> Shown:
        present = float(self.finder.level if in_flight is None else in_flight)
        latency, share = server(present)
        latency *= self._chance.lognormvariate(0.0, self._noise) if self._noise else 1.0
        pace = latency * (1 - share) / 100
        wait_error = 0.01 * latency if self._waits else math.inf
        reading = Reading(present, latency, 100.0, pace, 0.005, wait_error)
        return self.finder.step(reading, 100.0)

    def settle(self, server: Server, rounds: int = 40) -> list[int]:
        levels: list[int] = []
        for _ in range(rounds):
            self.round(server)
            levels.append(self.finder.level)
        return levels


@pytest.mark.parametrize("seats", [1, 5, 64, 700])
@pytest.mark.parametrize("waits", [True, False])
def test_it_finds_a_knee_that_it_was_not_told(seats: int, waits: bool) -> None:
    rounds = Rounds(finder(), waits=waits)
    levels = rounds.settle(knee(seats), 60)
    assert 0.85 * seats - 1 <= sum(levels[-10:]) / 10 <= 1.15 * seats + 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 1000), st.floats(0.01, 0.15), st.booleans())
def test_noise_neither_stops_the_climb_nor_lets_it_run_away(
    seats: int, noise: float, waits: bool
) -> None:
    levels = Rounds(finder(), noise=noise, waits=waits).settle(knee(seats), 150)
    middle = sorted(levels[-50:])[25]
    assert 0.5 * seats - 1 <= middle <= 4.0 * seats + 16


def test_a_server_without_a_knee_is_climbed_by_doubling_up_to_the_maximum() -> None:
    found = finder(maximum=500)
    levels = Rounds(found).settle(knee(1e9), 12)
    assert levels[:4] == [32, 64, 128, 256]
    assert found.level == 500
    assert found.why.reason is Reason.CLIMBING


def test_more_that_only_make_each_other_slower_are_not_sent() -> None:
    # Each more takes its share from all others, and nobody waits: a processor that is shared.
    rounds = Rounds(finder(), waits=False)
    assert max(rounds.settle(lambda n: (n / 10, 0.0))) <= 32
    assert rounds.finder.level <= 20


def test_a_server_that_becomes_slower_is_not_taken_for_a_full_one() -> None:
    rounds = Rounds(finder())
    before = rounds.settle(knee(1e9), 3)[-1]
    after = rounds.settle(knee(1e9, slower=3.0), 12)
    assert min(after) >= before / 2  # it looks at the lower level once more
    assert after[-1] > 2 * before


def test_a_change_that_is_over_in_the_next_round_changes_nothing() -> None:
    rounds = Rounds(finder())
    rounds.settle(knee(64), 40)
    before, state = rounds.finder.number, rounds.finder.state
    assert rounds.round(knee(64, slower=2.0)) is Shown.UNSURE
    rounds.round(knee(64))
    assert rounds.finder.number == pytest.approx(before, rel=0.05)
    assert rounds.finder.state is state


def test_twice_as_quick_is_another_server_and_climbed() -> None:
    rounds = Rounds(finder(), waits=False)
    rounds.settle(knee(64), 40)
    assert rounds.round(knee(128, slower=0.5)) is Shown.UNSURE
    assert rounds.round(knee(128, slower=0.5)) is Shown.PAYS
    assert rounds.finder.why.reason is Reason.CLIMBING
    assert 100 < sum(rounds.settle(knee(128, slower=0.5))[-10:]) / 10 < 150


def test_a_raise_that_makes_a_queue_is_taken_back_by_as_many_as_wait() -> None:
    rounds = Rounds(finder())
    shown = [rounds.round(knee(40)) for _ in range(4)]
    assert Shown.QUEUE in shown
    assert rounds.finder.number == pytest.approx(44, rel=0.1)
    assert rounds.finder.why.reason is Reason.QUEUE


def test_in_a_queue_of_many_clients_nobody_sends_more_though_that_would_bring_more() -> None:
    # Others hold three quarters of the seats and never give way.
    rounds = Rounds(finder())
    levels = rounds.settle(lambda n: ((192 + n) / 256, max(0.0, 1 - 256 / (192 + n))), 60)
    assert sum(levels[20:]) / 40 < 110


def test_where_something_else_allows_no_more_it_stays_near_what_is_used() -> None:
    rounds = Rounds(finder())
    for _ in range(30):
        rounds.round(knee(1e9), in_flight=5.0)
    assert rounds.finder.level <= 20


def test_every_state_knows_what_to_do_whatever_a_round_shows() -> None:
    assert set(Finder.MOVES) == {(state, shown) for state in State for shown in Shown}


READINGS = st.builds(
    Reading,
    st.floats(1.0, 1e5),
    st.floats(1e-6, 1e7),
    st.floats(0.0, 1e6),
    st.floats(0.0, 1e3),
    st.floats(0.0, 10.0),
    st.floats(0.0, 10.0) | st.just(math.inf),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(READINGS, max_size=40), st.integers(1, 50))
def test_the_level_stays_in_its_bounds_whatever_is_read(seen: list[Reading], minimum: int) -> None:
    found = Finder(0.15, minimum, minimum, 4 * minimum)
    for reading in seen:
        found.step(reading, 100.0)
        assert minimum <= found.level <= 4 * minimum
