"""Which jobs run: the most urgent, and every tenant's first before anybody's second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.service.scheduling import ENOUGH_LINES, Candidate, choose, wanted

NOW = 1_000.0
HOUR = 3600.0


def a_job(name: str, tenant: str = "t", hours: float = 24.0) -> Candidate:
    return Candidate((name, "run", 0), tenant, NOW + hours * HOUR)


def names(candidates: object) -> list[str]:
    assert isinstance(candidates, list)
    return [one.key[0] for one in candidates]


def test_a_free_place_is_given_to_the_most_urgent() -> None:
    choice = choose([], [a_job("day"), a_job("hour", hours=1)], 1, NOW)
    assert (names(choice.begin), names(choice.put_down)) == (["hour"], [])


def test_an_urgent_job_takes_the_place_of_the_least_urgent() -> None:
    running = [a_job("day"), a_job("half", hours=12)]
    choice = choose(running, [a_job("hour", hours=1)], 2, NOW)
    assert (names(choice.begin), names(choice.put_down)) == (["hour"], ["day"])


def test_equally_urgent_jobs_do_not_take_each_other_s_places() -> None:
    choice = choose([a_job("a")], [a_job("b", hours=23.9)], 1, NOW)
    assert (names(choice.begin), names(choice.put_down)) == ([], [])


def test_a_tenant_that_has_nothing_running_takes_a_place_of_one_that_has_two() -> None:
    choice = choose([a_job("a1"), a_job("a2")], [a_job("b", tenant="u")], 2, NOW)
    assert (names(choice.begin), names(choice.put_down)) == (["b"], ["a2"])


def a_part(batch: str, number: int, lines: int = ENOUGH_LINES) -> Candidate:
    return Candidate((batch, "run", number), "t", NOW + HOUR, lines)


def test_the_next_part_of_a_batch_waits_until_few_lines_of_the_others_are_left() -> None:
    waiting = [a_part("a", 1), a_part("a", 2), a_part("b", 0), a_part("b", 1)]
    assert wanted([a_part("a", 0)], waiting) == [waiting[2]]
    assert wanted([a_part("a", 0, ENOUGH_LINES - 1)], waiting) == [waiting[0], waiting[2]]


def test_parts_of_few_lines_run_together_until_these_are_enough() -> None:
    waiting = [a_part("a", number, ENOUGH_LINES // 4) for number in range(9)]
    assert wanted([], waiting) == waiting[:4]


def test_parts_of_a_batch_that_may_have_several_gateways_do_not_wait_for_each_other() -> None:
    waiting = [a_part("a", number, 0) for number in range(9)]
    assert wanted([a_part("a", 9, 0)], waiting) == waiting


@st.composite
def some_jobs(draw: st.DrawFn) -> tuple[list[Candidate], list[Candidate], int]:
    hours, tenants = st.floats(-1, 200), st.sampled_from("abc")
    jobs = [a_job(str(n), draw(tenants), draw(hours)) for n in range(draw(st.integers(0, 12)))]
    places = draw(st.integers(1, 5))
    return jobs[:places], jobs[places:], places


@given(some_jobs())
def test_places_are_never_exceeded_nor_left_empty_and_the_choice_stands(
    jobs: tuple[list[Candidate], list[Candidate], int],
) -> None:
    running, waiting, places = jobs
    choice = choose(running, waiting, places, NOW)
    after = [one for one in running if one not in choice.put_down] + list(choice.begin)
    assert len(after) == min(places, len(running) + len(waiting))
    left = [one for one in [*running, *waiting] if one not in after]
    again = choose(after, left, places, NOW)
    assert (list(again.begin), list(again.put_down)) == ([], [])
