"""Why the limit is what it is, in words that need no second reading."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.concurrency.reasons import Reason, Why


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_said_in_words(reason: Reason) -> None:
    sentence = Why(reason, 42.0).sentence(64)

    assert "{" not in sentence
    assert ("64" in sentence) or ("42" in sentence)


@pytest.mark.parametrize(
    ("a_minute", "said"),
    [
        (0.52, "0.5"),
        (4.5, "4.5"),
        (9.0, "9"),
        (42.3, "42"),
        (599.7, "600"),
        (1_234.0, "1,230"),
        (36_049.0, "36,000"),
    ],
)
def test_a_pace_is_said_by_the_minute_and_as_people_say_numbers(a_minute: float, said: str) -> None:
    assert Why(Reason.PACE, a_minute).sentence(13).endswith(f"keeping to {said} a minute")


@given(st.floats(0.1, 1e9))
def test_a_figure_is_said_with_three_digits_or_fewer_and_near_the_truth(figure: float) -> None:
    found = re.search(r"keeping to ([\d,.]+) a minute", Why(Reason.PACE, figure).sentence(1))
    assert found is not None
    said = float(found[1].replace(",", ""))
    assert len(str(int(said)).rstrip("0")) <= 3
    assert said == pytest.approx(figure, rel=0.05, abs=0.06)


def test_only_a_long_wait_is_said_in_seconds() -> None:
    assert Why(Reason.SHUT, 60.0).sentence(1).endswith("the next is tried after 60 s")
    assert Why(Reason.SHUT, 0.5).sentence(1).endswith("trying again one by one")


def test_one_more_that_is_only_tried_is_not_said_to_be_what_is_kept_to() -> None:
    assert Why(Reason.CEILING, 8.0).sentence(9) == "8 at a time: the gateway refuses more than 8"
    assert Why(Reason.CEILING, 8.0).sentence(6) == "6 at a time: the gateway refuses more than 8"
