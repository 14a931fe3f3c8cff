"""A real Prometheus that watches a client: every panel of the dashboard shows something."""

from __future__ import annotations

import asyncio
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from batch_gateway.engine.progress import RunStats
from batch_gateway.metrics.metrics_server import MetricsServer
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.testing import SimulatorConfig, simulated_gateway
from tests.metrics.every_layer import use_every_layer
from tests.peers.debian import debian_package
from tests.peers.processes import accepts_connections, free_port, running_process

pytestmark = pytest.mark.peer("prometheus")

LIMIT_S = 30.0
POLL_S = 0.1
DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text("utf-8"))
TARGETS = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]
GRAFANA_FILLS_IN = {"$__rate_interval": "1m", "$gateway": ".*", "$model": ".*"}


class Prometheus:
    """The questions that Grafana asks of it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **arguments: str) -> Any:
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/{path}?{query}", timeout=LIMIT_S) as response:
            return json.loads(response.read())["data"]

    def values(self, expression: str) -> list[float]:
        """The numbers that a panel would show now."""
        found = self.ask("query", query=expression)["result"]
        values = [float(series["value"][1]) for series in found]
        return [value for value in values if not math.isnan(value)]

    def wait_for(self, is_so: Callable[[], object], what: str) -> None:
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, f"{what} is not to be had after {LIMIT_S} s"
            time.sleep(POLL_S)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has seen two bursts of requests."""
    folder = tmp_path_factory.mktemp("prometheus")
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    run = RunStats(total=10, in_flight=1)
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


@contextmanager
def watching(metrics_url: str, folder: Path) -> Iterator[Prometheus]:
    place = urllib.parse.urlsplit(metrics_url)
    config = {
        "global": {
            "scrape_interval": "500ms",
            "scrape_timeout": "500ms",
            "evaluation_interval": "500ms",
        },
        "rule_files": [str(DEPLOY / "prometheus" / "alerts.yaml")],
        "scrape_configs": [
            {"job_name": "batch-gateway", "static_configs": [{"targets": [place.netloc]}]}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    port = free_port()
    program = debian_package("prometheus") / "usr" / "bin" / "prometheus"
    command = [
        str(program),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with running_process(
        command, is_ready=lambda: accepts_connections(port), log=folder / "prometheus.log"
    ):
        yield Prometheus(port)


@pytest.mark.parametrize(("panel", "expression"), TARGETS, ids=[name for name, _ in TARGETS])
def test_every_panel_shows_something(prometheus: Prometheus, panel: str, expression: str) -> None:
    for variable, value in GRAFANA_FILLS_IN.items():
        expression = expression.replace(variable, value)
    prometheus.wait_for(lambda: prometheus.values(expression), panel)


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    chosen = {"match[]": "batch_gateway_requests_total"}
    assert "m" in prometheus.ask("label/model/values", **chosen)
    [gateway] = prometheus.ask("label/gateway/values", **chosen)
    assert gateway.startswith("http://127.0.0.1:")


def test_every_scrape_and_every_rule_goes_well(prometheus: Prometheus) -> None:
    prometheus.wait_for(
        lambda: all(rule["health"] == "ok" for rule in rules(prometheus)), "a verdict on every rule"
    )
    assert len(rules(prometheus)) >= 6
    prometheus.wait_for(lambda: scrapes(prometheus) == [("up", "")], "a scrape in good order")


def rules(prometheus: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]


def scrapes(prometheus: Prometheus) -> list[tuple[str, str]]:
    targets = prometheus.ask("targets")["activeTargets"]
    return [(target["health"], target["lastError"]) for target in targets]
