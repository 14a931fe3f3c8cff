"""What a scheduling gateway is told about each attempt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    ConfigError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    SchedulingHints,
)
from batch_gateway.client.layers.scheduling_hints import hint_headers
from batch_gateway.testing import simulated_gateway


def test_the_objective_and_the_tenant_go_out_under_both_spellings() -> None:
    hints = SchedulingHints(objective="batch-low", fairness_id="team-a")
    assert dict(hint_headers(hints, float("inf"))) == {
        "x-llm-d-inference-objective": "batch-low",
        "x-gateway-inference-objective": "batch-low",
        "x-llm-d-inference-fairness-id": "team-a",
        "x-gateway-inference-fairness-id": "team-a",
    }


def test_the_time_to_the_deadline_goes_out_in_milliseconds() -> None:
    headers = dict(hint_headers(SchedulingHints(ttl="10m"), 90.5))
    assert headers == {
        "x-llm-d-slo-ttft-ms": "90500",
        "x-slo-ttft-ms": "90500",
        "x-llm-d-inference-ttl": "90500ms",
    }
    assert dict(hint_headers(SchedulingHints(ttl="10s"), float("inf"))) == {
        "x-llm-d-inference-ttl": "10000ms"
    }
    assert hint_headers(SchedulingHints(send_deadline=False), 5.0) == ()


@given(st.floats(max_value=1e12, allow_nan=False))
def test_no_time_is_ever_zero(remaining: float) -> None:
    for name, value in hint_headers(SchedulingHints(ttl=1), remaining):
        assert int(value.removesuffix("ms")) >= 1, name


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"objective": "a\r\nb"}, "scheduling.objective"),
        ({"ttl": 0}, "scheduling.ttl"),
        ({"ttl": "x"}, "scheduling.ttl"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SchedulingHints(**settings)  # type: ignore[arg-type]
    assert caught.value.field == field


@pytest.mark.anyio
async def test_every_attempt_says_how_much_time_is_left_now() -> None:
    with simulated_gateway() as gateway:
        config = HTTPInferenceClientConfig(gateway.url, scheduling=SchedulingHints(objective="low"))
        async with HTTPInferenceClient(config) as client:
            await client.generate(
                InferenceRequest(
                    params={"model": "fault-refuse-then-ok-1", "prompt": "x"},
                    headers={"x-llm-d-inference-objective": "high"},
                    deadline=60,
                )
            )
        first, second = gateway.recent_requests()
    left = [int(one.header(b"x-llm-d-slo-ttft-ms")) for one in (first, second)]
    assert 50_000 < left[1] < left[0] <= 60_000
    assert first.header(b"x-slo-ttft-ms") == str(left[0])
    # What the request itself says wins.
    assert first.header(b"x-llm-d-inference-objective") == "high"
    assert first.header(b"x-gateway-inference-objective") == "low"
