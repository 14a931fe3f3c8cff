"""A quota of requests: what a token bucket grants, and what is said beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.simulator.quota import TokenBucket
from batch_gateway.simulator.simulator_config import RefusalStyle
from batch_gateway.testing import simulated_gateway

from .asking import ask, get


def test_a_burst_is_granted_and_then_the_rate() -> None:
    bucket = TokenBucket(2.0, 5)
    assert [bucket.take(0.0) == 0 for _ in range(6)] == [True] * 5 + [False]
    assert sum(bucket.take(tenth / 10) == 0 for tenth in range(1, 101)) == 20


def test_it_tells_when_there_is_a_token_again() -> None:
    bucket = TokenBucket(0.5, 1)
    assert bucket.take(10.0) == 0
    assert bucket.take(10.5) == pytest.approx(1.5)
    assert bucket.take(12.0) == 0


def test_a_long_rest_earns_no_more_than_a_burst() -> None:
    bucket = TokenBucket(10.0, 3)
    assert [bucket.take(1_000.0) == 0 for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 5), max_size=100), st.floats(0.1, 20), st.integers(1, 20))
def test_never_more_than_burst_and_rate_are_granted(
    gaps: list[float], per_second: float, burst: int
) -> None:
    bucket, now, granted = TokenBucket(per_second, burst), 0.0, 0
    for gap in gaps:
        now += gap
        granted += bucket.take(now) == 0
        assert granted <= burst + per_second * now + 1e-6


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("llm-d", {"x-envoy-ratelimited": "true"}),
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "1",
                "x-ratelimit-remaining-requests": "0",
            },
        ),
    ],
)
def test_beyond_a_quota_requests_are_refused_whatever_the_load(
    style: RefusalStyle, told: dict[str, str]
) -> None:
    with simulated_gateway(requests_per_minute=1, requests_burst=3, refusal_style=style) as gateway:
        answers = [ask(gateway.url) for _ in range(5)]
        assert [answer.status for answer in answers] == [200] * 3 + [429] * 2
        refused = answers[-1].headers
        assert told.items() <= refused.items()
        if style == "openai":
            assert 0 < int(refused["retry-after"]) <= 60
            assert refused["x-ratelimit-reset-requests"].endswith("ms")
        else:
            assert "retry-after" not in refused
        # Pages are not inference, and another quota starts anew.
        assert get(gateway.url, "/v1/models").status == 200
        gateway.configure(requests_per_minute=2)
        assert ask(gateway.url).status == 200
        gateway.configure(requests_per_minute=None)
        assert [ask(gateway.url).status for _ in range(5)] == [200] * 5


def test_other_settings_change_without_a_new_quota() -> None:
    with simulated_gateway(requests_per_minute=1, requests_burst=1) as gateway:
        assert ask(gateway.url).status == 200
        gateway.configure(seats=4)
        assert ask(gateway.url).status == 429
