"""What Prometheus is shown of clients and runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batch_gateway import (
    CacheConfig,
    CircuitBreakerPolicy,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.progress import RunStats
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.metrics.series import OTHER, BoundedLabels, Histogram
from batch_gateway.testing import GatewayHandle
from tests.engine.lines_under_way import end, sending
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> PrometheusMetrics:
    return PrometheusMetrics(registry, max_models=3)


def ask(model: str = "m", **more: Any) -> InferenceRequest:
    return InferenceRequest(params={"model": model, "prompt": "Hello!"}, **more)


def client_of(gateway: GatewayHandle, metrics: PrometheusMetrics) -> HTTPInferenceClient:
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK)
    return HTTPInferenceClient(config, observers=[metrics])


def shown(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one name by label values, but for the gateway's."""
    return {
        tuple(value for label, value in sample.labels.items() if label != "gateway"): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"batch_gateway_{name}"
    }


async def test_requests_are_counted_by_model_endpoint_and_outcome(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    async with client_of(gateway, metrics) as client:
        for model in ("a", "a", "b"):
            await client.generate(ask(model))
        with pytest.raises(InferenceError):
            await client.generate(ask("fault-status-400"))
    path = "/v1/completions"
    assert shown(registry, "requests_total") == {
        ("a", path, "ok", ""): 2,
        ("b", path, "ok", ""): 1,
        ("fault-status-400", path, "INVALID_REQ", "invalid_request"): 1,
    }
    assert shown(registry, "request_duration_seconds_count")["a", path] == 2
    assert shown(registry, "request_duration_seconds_bucket")["a", path, "+Inf"] == 2
    assert shown(registry, "tokens_total")["a", path, "output"] == 10


async def test_clients_of_one_gateway_are_one_series_and_closed_ones_are_forgotten(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    for _ in range(3):
        async with client_of(gateway, metrics) as client:
            await client.generate(ask())
    assert len(metrics.clients) == 1
    async with client_of(gateway, metrics), client_of(gateway, metrics):
        for events, limit, state in zip(metrics.clients, (3, 5), ("closed", "open"), strict=True):
            events.limit_changed(limit)
            events.breaker_changed(state)
        text = generate_latest(registry).decode()
    assert text.count("batch_gateway_requests_in_flight{") == 1
    assert shown(registry, "concurrency_limit") == {(): 8}
    assert shown(registry, "circuit_breaker_state") == {
        ("closed",): 1,
        ("open",): 1,
        ("half_open",): 0,
    }
    assert shown(registry, "requests_total") == {("m", "/v1/completions", "ok", ""): 3}


async def test_no_name_of_a_model_spoils_what_is_scraped(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    odd = 'nul\0 "quoted" \\ {}\nsecond line\u202e'
    async with client_of(gateway, metrics) as client:
        for model in (odd, "x" * 10_000):
            await client.generate(ask(model))
    path = "/v1/completions"
    assert shown(registry, "requests_total") == {
        ('nul\ufffd "quoted" \\ {}\ufffdsecond line\ufffd', path, "ok", ""): 1,
        ("x" * 199 + "…", path, "ok", ""): 1,
    }
    text = generate_latest(registry).decode()
    assert "\0" not in text
    read = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert any(sample.labels.get("model", "").startswith("nul\ufffd") for sample in read)


async def test_retries_are_counted_by_their_reason(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    async with client_of(gateway, metrics) as client:
        await client.generate(ask("fault-status-503;times=2"))
        await client.generate(ask("fault-status-429;times=1"))
    assert shown(registry, "retries_total") == {
        ("server_error",): 2,
        ("rate_limit_exceeded",): 1,
    }


async def test_the_time_to_the_first_token_is_shown_for_streamed_answers(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    config = HTTPInferenceClientConfig(gateway.url, stream_upstream=True)
    async with HTTPInferenceClient(config, observers=[metrics]) as client:
        await client.generate(ask())
    assert shown(registry, "time_to_first_token_seconds_count") == {("m", "/v1/completions"): 1}


async def test_answers_from_the_cache_cost_no_tokens_and_a_closed_breaker_is_shown(
    gateway: GatewayHandle,
    registry: CollectorRegistry,
    metrics: PrometheusMetrics,
    tmp_path: Path,
) -> None:
    config = HTTPInferenceClientConfig(
        gateway.url,
        cache=CacheConfig(tmp_path / "cache.sqlite"),
        circuit_breaker=CircuitBreakerPolicy(),
    )
    async with HTTPInferenceClient(config, observers=[metrics]) as client:
        assert shown(registry, "circuit_breaker_state")["closed",] == 1
        for _ in range(3):
            await client.generate(ask())
    assert shown(registry, "cache_lookups_total") == {("miss",): 1, ("hit",): 2}
    assert shown(registry, "requests_total") == {("m", "/v1/completions", "ok", ""): 3}
    assert shown(registry, "tokens_total")["m", "/v1/completions", "output"] == 5


async def test_models_beyond_the_limit_share_one_name(
    gateway: GatewayHandle, registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    async with client_of(gateway, metrics) as client:
        for number in range(10):
            await client.generate(ask(f"model-{number}"))
        await client.generate(ask("model-0"))
    counts = {model: n for (model, *_), n in shown(registry, "requests_total").items()}
    assert counts == {"model-0": 2, "model-1": 1, "model-2": 1, OTHER: 7}


def test_the_state_of_a_gateway_is_shown_as_it_is_just_now(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    events = GatewayEvents("g", [metrics])
    assert shown(registry, "concurrency_limit") == {}
    assert shown(registry, "circuit_breaker_state") == {}
    events.limit_changed(32)
    events.requests_in_flight = 7
    events.attempts_in_flight = 5
    events.breaker_changed("half_open")
    for result in ("hit", "miss", "hit"):
        events.cache_looked_up(result)
    events.coalesced(16)
    events.rate_limit_waited(0.2)
    assert shown(registry, "concurrency_limit") == {(): 32}
    assert shown(registry, "requests_in_flight") == {(): 7}
    assert shown(registry, "attempts_in_flight") == {(): 5}
    assert shown(registry, "circuit_breaker_state") == {
        ("closed",): 0,
        ("open",): 0,
        ("half_open",): 1,
    }
    assert shown(registry, "cache_lookups_total") == {("hit",): 2, ("miss",): 1}
    assert shown(registry, "coalesced_requests_bucket")["16.0",] == 1
    assert shown(registry, "coalesced_requests_bucket")["8.0",] == 0
    assert shown(registry, "rate_limit_wait_seconds_sum") == {(): 0.2}


def test_why_the_limit_is_what_it_is_is_shown_where_it_is_known(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    events = GatewayEvents("g", [metrics])
    events.limit_changed(32)
    assert shown(registry, "concurrency_limit_reason") == {}
    events.limit_changed(32, Why(Reason.KNEE), True)
    reasons = shown(registry, "concurrency_limit_reason")
    assert reasons == {(reason.value,): float(reason is Reason.KNEE) for reason in Reason}
    assert shown(registry, "concurrency_pace_per_minute") == {}
    events.limit_changed(9, Why(Reason.PACE, 600.0), True)
    assert shown(registry, "concurrency_limit_reason")["pace",] == 1
    assert shown(registry, "concurrency_limit_reason")["knee",] == 0
    assert shown(registry, "concurrency_pace_per_minute") == {(): 600.0}


def test_a_run_is_shown_while_it_goes_on(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    figures = Figures(succeeded=10, failed=2)
    stats = RunStats(
        total=100, done_before=40, time_left=sending(5), figures=figures, stopping=True
    )
    metrics.follow_run(stats)
    assert shown(registry, "run_lines") == {(): 100}
    assert shown(registry, "run_lines_done") == {
        ("earlier",): 40,
        ("succeeded",): 10,
        ("failed",): 2,
    }
    assert shown(registry, "run_lines_in_flight") == {(): 5}
    assert shown(registry, "run_stopping") == {(): 1}


def test_the_time_left_is_what_the_run_reckons_and_nothing_while_nobody_can_know(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    stats = RunStats(total=100, time_left=sending(1))
    metrics.follow_run(stats)
    assert stats.seconds_left(0.0) is None
    assert shown(registry, "run_time_left_seconds") == {}
    # Ten lines, of which each took a second.
    stats.figures.succeeded = 10
    for line in range(10):
        end(stats.time_left, line, line + 1.0)
        stats.time_left.begin(line + 1, line + 1.0)
    assert stats.seconds_left(10.0) == shown(registry, "run_time_left_seconds")[()]
    assert 60 < shown(registry, "run_time_left_seconds")[()] < 120
    stats.stopping = True
    stats.seconds_left(10.5)
    assert shown(registry, "run_time_left_seconds") == {}


def test_a_registry_takes_the_metrics_once_and_gives_them_back(
    registry: CollectorRegistry, metrics: PrometheusMetrics
) -> None:
    with pytest.raises(ValueError, match="batch_gateway"):
        PrometheusMetrics(registry)
    metrics.close()
    assert generate_latest(registry) == b""


@given(st.lists(st.floats(0, 10_000, allow_nan=False)))
def test_a_histogram_accounts_for_every_value(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.add(value)
    assert histogram.cumulative() == [
        ("0.1", sum(value <= 0.1 for value in values)),
        ("1.0", sum(value <= 1.0 for value in values)),
        ("10.0", sum(value <= 10.0 for value in values)),
        ("+Inf", len(values)),
    ]
    assert histogram.sum == pytest.approx(sum(values))


@given(st.lists(st.text(max_size=3)), st.integers(0, 5))
def test_there_are_never_more_labels_than_allowed(values: list[str], limit: int) -> None:
    labels = BoundedLabels(limit)
    given_back = {labels.of(value) for value in values}
    assert len(given_back - {OTHER}) <= limit
    assert all(labels.of(value) in (value, OTHER) for value in values if value.isprintable())
    assert all(value.isprintable() for value in given_back)


def test_neither_the_library_nor_the_command_imports_a_monitoring_library() -> None:
    code = (
        "import sys, batch_gateway, batch_gateway.cli.main; "
        "print([name for name in sys.modules if name.split('.')[0] in "
        "('prometheus_client', 'opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.strip() == "[]"


async def test_answers_that_were_cut_off_are_counted_by_reason(gateway: GatewayHandle) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    config = HTTPInferenceClientConfig(gateway.url)
    async with HTTPInferenceClient(config, observers=[metrics]) as client:
        for limit in (1, 1, 10_000):
            params = {"model": "m", "prompt": "Hi", "max_tokens": limit}
            await client.generate(InferenceRequest(params=params))
    labels = {"gateway": gateway.url, "model": "m", "endpoint": "/v1/completions"}
    value = registry.get_sample_value
    assert value("batch_gateway_answers_cut_off_total", {**labels, "reason": "length"}) == 2
