"""Conditions under which a run counts as failed: what they say, and when they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.engine.figures import Figures
from batch_gateway.engine.progress import RunSummary
from batch_gateway.errors import ConfigError
from batch_gateway.report.distributions import Distributions
from batch_gateway.report.threshold import Threshold


def answers(*latencies: float, first: float = 0.0, rate: float = 0.0) -> Distributions:
    found = Distributions()
    for latency in latencies:
        found.latencies.add(latency)
        if first:
            found.first_tokens.add(first)
        if rate:
            found.token_rates.add(rate)
    return found


def summary(succeeded: int = 98, failed: int = 2, cut_off: int = 0) -> RunSummary:
    figures = Figures(succeeded=succeeded, failed=failed, cut_off={"length": cut_off})
    return RunSummary(
        figures=figures,
        total=succeeded + failed,
        succeeded=succeeded,
        failed=failed,
        left_to_send=0,
    )


def why(text: str, found: Distributions | None = None, ended: RunSummary | None = None) -> str:
    return Threshold.parse(text).why(ended or summary(), found or answers(1.0, 2.0, 40.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p95>30s", "p95>30s: it is 40.0s"),
        ("latency.max >= 40", "latency.max >= 40: it is 40.0s"),
        ("p95>1m", ""),
        ("min<1.5s", "min<1.5s: it is 1.0s"),
        ("min>1s", ""),
        ("mean>14s", "mean>14s: it is 14.3s"),
        ("mean<=14s", ""),
        ("failed>1%", "failed>1%: it is 2 of 100, 2.000%"),
        ("failed>2%", ""),
        ("failed>=2", "failed>=2: it is 2 of 100"),
        ("failed>2", ""),
        ("truncated>0", ""),
    ],
)
def test_a_condition_that_holds_says_what_is_so(text: str, said: str) -> None:
    assert why(text) == said


def test_truncated_answers_are_counted_among_those_that_succeeded() -> None:
    assert why("truncated>4%", ended=summary(cut_off=5)) == "truncated>4%: it is 5 of 98, 5.102%"
    assert why("truncated>10", ended=summary(cut_off=5)) == ""


def test_first_tokens_and_rates_are_compared_in_their_units() -> None:
    found = answers(3.0, first=0.7, rate=25.0)
    assert why("ttft.p50>500ms", found) == "ttft.p50>500ms: it is 700ms"
    assert why("ttft.p50>1s", found) == ""
    assert why("tokens_per_second.p5<30", found) == "tokens_per_second.p5<30: it is 25.0"
    assert why("tokens_per_second.p5<20", found) == ""


def test_what_cannot_be_judged_is_no_success_unless_there_was_nothing_to_judge() -> None:
    assert "--stream-upstream" in why("ttft.p95>2s", answers(1.0))
    assert "no answer says" in why("tokens_per_second.p50<5", answers(1.0))
    for text in ("p95>1s", "ttft.p95>2s", "tokens_per_second.p50<5"):
        assert why(text, answers()) == ""
    for text in ("failed>1%", "truncated>1%"):
        assert why(text, answers(), summary(0, 0)) == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is no condition"),
        ("p95", "is no condition"),
        ("p95>", "is no condition"),
        (">30s", "is no condition"),
        ("p95>>30s", "is no condition"),
        ("p95=30s", "is no condition"),
        ("1s<p95<2s", "is no condition"),
        ("p0>1s", "'p0' is nothing that is measured"),
        ("p100>1s", "'p100' is nothing that is measured"),
        ("ttft>1s", "'ttft' is nothing that is measured"),
        ("speed.p95>1", "'speed.p95' is nothing that is measured"),
        ("failed.p95>1", "'failed.p95' is nothing that is measured"),
        ("p95>fast", "'fast' is not a duration"),
        ("p95>-1s", "'-1s' is not a duration"),
        ("p95>5%", "'5%' is not a duration"),
        ("failed>1s", "'1s' is not a number of lines, or a share"),
        ("failed>101%", "'101%' is not a number of lines, or a share"),
        ("truncated>-1", "'-1' is not a number of lines"),
        ("tokens_per_second.p50<10%", "'10%' is not a number"),
        ("tokens_per_second.p50<nan", "'nan' is not a number"),
    ],
)
def test_what_is_no_condition_is_named_with_examples(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Threshold.parse(text, "--fail-if")
    assert caught.value.field == "--fail-if"
    assert problem in caught.value.problem


@given(st.text(max_size=30))
def test_any_text_is_a_condition_or_a_clear_error(text: str) -> None:
    try:
        found = Threshold.parse(text)
    except ConfigError:
        return
    assert isinstance(found.why(summary(), answers(1.0)), str)


@given(
    st.lists(st.floats(0.001, 1e4), min_size=1, max_size=30),
    st.sampled_from(["min", "p1", "p50", "p95", "p99.9", "max", "mean"]),
    st.floats(0.001, 1e4),
)
def test_of_a_condition_and_its_opposite_exactly_one_holds(
    latencies: list[float], statistic: str, limit: float
) -> None:
    found = answers(*latencies)
    above, below = why(f"{statistic}>{limit:.9f}", found), why(f"{statistic}<={limit:.9f}", found)
    assert bool(above) != bool(below)
