"""What a simulator may be told, and what it says about the rest."""

from __future__ import annotations

from typing import Any

import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.testing import SimulatorConfig


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"seats": 0}, "seats"),
        ({"seats": 1.5}, "seats"),
        ({"queue_limit": -1}, "queue_limit"),
        ({"queue_ttl": "soon"}, "queue_ttl"),
        ({"kv_cache_tokens": 0}, "kv_cache_tokens"),
        ({"time_per_token": 0}, "time_per_token"),
        ({"load_growth": -1}, "load_growth"),
        ({"latency_scale": float("nan")}, "latency_scale"),
        ({"tokens_per_second": 0}, "tokens_per_second"),
        ({"tokens_per_second": 10**400}, "tokens_per_second"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_burst": 0}, "requests_burst"),
        ({"jitter": float("inf")}, "jitter"),
        ({"output_distribution": "odd"}, "output_distribution"),
        ({"refusal_style": "odd"}, "refusal_style"),
        ({"faults": {"nonsense": 0.1}}, "faults"),
        ({"faults": {"stall": 0.6, "delay": 0.6}}, "faults"),
        ({"faults": {"stall": -0.1}}, "faults['stall']"),
        ({"models": []}, "models"),
        ({"models": "tiny"}, "models"),
        ({"tls_certificate": "/does/not/exist"}, "tls_certificate"),
        ({"tls_certificate": __file__}, "tls_key"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SimulatorConfig(**settings)
    assert caught.value.field == field


def test_durations_may_be_written_as_strings() -> None:
    config = SimulatorConfig(time_per_token="20ms", queue_ttl="1m")
    assert (config.time_per_token, config.queue_ttl) == (0.02, 60.0)


def test_presets_take_overrides() -> None:
    assert SimulatorConfig.instant(seats=3).latency_scale == 0
    assert SimulatorConfig.small_gpu(jitter=0).jitter == 0
    assert SimulatorConfig.small_gpu().with_changes(seats=2).seats == 2


def test_the_api_key_is_not_printed() -> None:
    assert "sk-secret" not in repr(SimulatorConfig(api_key="sk-secret"))
