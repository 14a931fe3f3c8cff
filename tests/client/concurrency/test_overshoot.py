"""Ours that have no first token yet, counted after a raise."""

from __future__ import annotations

from batch_gateway.client.concurrency.overshoot import Overshoot

STEP = 0.05  # seconds from one answer to the next
RAISED_AT = 10.0


def raised(before: int) -> Overshoot:
    overshoot = Overshoot()
    overshoot.begin(before, 0.1, RAISED_AT)
    return overshoot


def told(overshoot: Overshoot, in_flight: int, *, prompts_per_answer: int, waiting: int) -> float:
    """What it says at last, while every answer makes room for one that is sent at once."""
    found = 0.0
    for step in range(1, 60):
        now = RAISED_AT + step * STEP
        for _ in range(min(prompts_per_answer, waiting + 1)):
            overshoot.first_token(RAISED_AT, now - RAISED_AT, now)
            waiting -= 1
        waiting += 1
        found = overshoot.ended(RAISED_AT - 1, True, in_flight - 1, now) or found
    return found


def test_a_full_server_takes_as_many_as_go_and_the_rest_are_counted() -> None:
    fits = told(raised(100), 150, prompts_per_answer=1, waiting=50)
    assert 95 <= fits <= 105


def test_a_server_with_room_that_reads_one_prompt_after_the_other_is_not_full() -> None:
    assert told(raised(100), 150, prompts_per_answer=3, waiting=50) == 0


def test_a_few_without_a_first_token_are_no_queue() -> None:
    assert told(raised(100), 104, prompts_per_answer=1, waiting=4) == 0


def test_requests_that_fail_without_a_first_token_do_not_count_as_waiting() -> None:
    overshoot = raised(100)
    for step in range(1, 60):
        now = RAISED_AT + step * STEP
        assert overshoot.ended(RAISED_AT, False, 100, now) is None


def test_first_tokens_that_are_told_of_when_answers_end_show_nothing() -> None:
    overshoot = raised(100)
    for step in range(1, 60):
        now = RAISED_AT + step * STEP
        overshoot.first_token(now - 5.0, 0.1, now)
        assert overshoot.ended(now - 5.0, True, 150, now) is None


def test_where_only_some_answers_are_streamed_the_others_are_not_taken_for_a_queue() -> None:
    overshoot = raised(50)
    for step in range(40):
        now = RAISED_AT + step * 1e-3
        if step % 2:
            overshoot.first_token(RAISED_AT - 1, now - RAISED_AT + 1, now)
        overshoot.ended(RAISED_AT - 1, True, 50, now)
    overshoot.begin(100, 0.1, RAISED_AT)
    assert told(overshoot, 150, prompts_per_answer=1, waiting=50) == 0


def test_where_nothing_was_raised_or_streamed_it_says_nothing() -> None:
    overshoot = Overshoot()
    overshoot.begin(100, None, RAISED_AT)
    assert not overshoot.under_way
    assert told(overshoot, 150, prompts_per_answer=1, waiting=50) == 0


def test_less_is_wanted_until_what_waited_is_gone() -> None:
    overshoot = raised(100)
    overshoot.drain()
    limit = round(overshoot.wanted(100))
    assert limit < 75
    assert not overshoot.is_gone(130, limit)
    assert overshoot.is_gone(limit, limit)
    assert not overshoot.is_gone(limit, limit)
    assert overshoot.wanted(100) == 100
