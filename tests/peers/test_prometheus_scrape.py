"""A real Prometheus that watches a client: every panel of the dashboard shows something."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from batch_gateway.engine.progress import RunStats
from batch_gateway.metrics.metrics_server import MetricsServer
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.testing import SimulatorConfig, simulated_gateway
from tests.engine.lines_under_way import sending
from tests.metrics.every_layer import use_every_layer
from tests.peers.watching_prometheus import Prometheus, targets_of, watching

pytestmark = pytest.mark.peer("prometheus")

TARGETS = targets_of("dashboard.json")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen two bursts of requests."""
    folder = tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    run = RunStats(total=10, time_left=sending(1), expected=30.0)
    metrics.follow_run(run)
    quick = SimulatorConfig(latency_scale=0.01, prefix_cache_tokens=10_000)
    with (
        simulated_gateway(quick) as simulator,
        MetricsServer(registry, "127.0.0.1", 0) as server,
        watching(server.url, folder) as prometheus,
    ):
        for burst in ("first", "second"):
            (folder / burst).mkdir()
            asyncio.run(use_every_layer(simulator.url, folder / burst, metrics))
            run.figures.succeeded += 2
            run.figures.failed += 1
            done = f"sum(batch_gateway_run_lines_done) == {run.succeeded + run.failed}"
            prometheus.wait_for(lambda seen=done: prometheus.values(seen), burst)
        yield prometheus


@pytest.mark.parametrize(("panel", "expression"), TARGETS, ids=[name for name, _ in TARGETS])
def test_every_panel_shows_something(prometheus: Prometheus, panel: str, expression: str) -> None:
    prometheus.wait_for(lambda: prometheus.values(expression), panel)


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    chosen = {"match[]": "batch_gateway_requests_total"}
    assert "m" in prometheus.ask("label/model/values", **chosen)
    [gateway] = prometheus.ask("label/gateway/values", **chosen)
    assert gateway.startswith("http://127.0.0.1:")


def test_every_scrape_and_every_rule_goes_well(prometheus: Prometheus) -> None:
    prometheus.expect_all_to_be_well()
