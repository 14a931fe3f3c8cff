"""The dashboards and the alerts ask for metrics and labels that there are."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from batch_gateway.engine.progress import RunStats
from batch_gateway.metrics.prometheus import PrometheusMetrics
from batch_gateway.report.timeline import Totals
from batch_gateway.server.api_metrics import ApiMetrics, BacklogMetrics
from batch_gateway.server.processor_metrics import ProcessorMetrics
from batch_gateway.service.backlog import Backlog
from batch_gateway.testing import simulated_gateway
from tests.metrics.every_layer import use_every_layer
from tests.service.records import NOW, a_batch

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
DASHBOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((DEPLOY / "grafana" / f"{name}.json").read_text("utf-8"))
    for name in ("dashboard", "service")
}
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]

_NAMES = "batch|http|jobs?|model|plan|processor|request|total|active"
_METRIC = re.compile(rf"\b((?:{_NAMES})_\w+)\s*(?:\{{([^}}]*)\}})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")
# Not ours: Prometheus and the buckets of histograms add them.
_FOREIGN_LABELS = {"instance", "job", "le"}


def panels(dashboard: str) -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARDS[dashboard]["panels"] if panel["type"] != "row"]


def asked_by(dashboard: str) -> Iterator[tuple[str, str]]:
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARDS[dashboard]["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]


def expressions() -> Iterator[tuple[str, str]]:
    for dashboard in DASHBOARDS:
        yield from asked_by(dashboard)
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def samples_of(registry: CollectorRegistry) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.fixture(scope="module")
def client_samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample of a client and of a run: its name and its labels."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    metrics.follow_run(RunStats(total=3, expected=2.0))
    with simulated_gateway() as gateway:
        asyncio.run(use_every_layer(gateway.url, tmp_path_factory.mktemp("cache"), metrics))
    return samples_of(registry)


@pytest.fixture(scope="module")
def service_samples() -> dict[str, set[str]]:
    """Every sample of the service that is not of its gateways or its process."""
    registry = CollectorRegistry()
    ApiMetrics(registry).ended("GET", "/v1/files", 200, 0.1)
    BacklogMetrics(registry).show([Backlog("m", 1, 2, 3.0, 4.0, 5.0)], 0.0)
    metrics = ProcessorMetrics(registry, 1, lambda: 1, ["m"])
    metrics.taken(1.0)
    metrics.looked_at(1.0)
    metrics.moved(a_batch(status="cancelled", in_progress_at=NOW, cancelled_at=NOW))
    metrics.answered("m", Totals(failed=1))
    names = samples_of(registry).items()
    return {
        name: labels
        for name, labels in names
        if not name.startswith(("batch_gateway_", "process_")) and not name.endswith("_created")
    }


@pytest.fixture(scope="module")
def samples(
    client_samples: dict[str, set[str]], service_samples: dict[str, set[str]]
) -> dict[str, set[str]]:
    return client_samples | service_samples


@pytest.mark.parametrize(("place", "expression"), list(expressions()), ids=lambda text: text[:40])
def test_every_metric_and_label_exists(
    place: str, expression: str, samples: dict[str, set[str]]
) -> None:
    asked = _METRIC.findall(expression)
    assert asked, f"{place} asks for no metric"
    labels = set[str]()
    for name, conditions in asked:
        assert name in samples, f"{place} asks for {name}"
        assert set(_LABEL.findall(conditions)) - _FOREIGN_LABELS <= samples[name], (
            f"{place}: {name}{{{conditions}}}"
        )
        labels |= samples[name]
    for grouping in _GROUPING.findall(expression):
        wanted = {label.strip() for label in grouping.split(",")}
        assert wanted <= labels | _FOREIGN_LABELS, f"{place}: {grouping}"


def test_every_expression_is_promql() -> None:
    for place, expression in expressions():
        if not expression.startswith("label_values("):
            text = re.sub(r"\$__rate_interval", "1m", expression)
            try:
                promql_parser.parse(text)
            except ValueError as error:
                raise AssertionError(f"{place}: {error}") from error


def test_every_metric_is_on_its_dashboard(
    client_samples: dict[str, set[str]], service_samples: dict[str, set[str]]
) -> None:
    assert not_shown(client_samples, "dashboard") == {"batch_gateway_build_info"}
    assert not_shown(service_samples, "service") == set()


def not_shown(samples: dict[str, set[str]], dashboard: str) -> set[str]:
    shown = {name for _, text in asked_by(dashboard) for name, _ in _METRIC.findall(text)}
    return {_family(name) for name in samples} - {_family(name) for name in shown}


def _family(sample: str) -> str:
    return re.sub(r"_(bucket|sum|count)$", "", sample)


def test_alert_rules_are_complete() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 5
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


@pytest.mark.parametrize("dashboard", DASHBOARDS)
def test_a_dashboard_has_whole_panels_that_do_not_overlap(dashboard: str) -> None:
    panels = DASHBOARDS[dashboard]["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken = set[tuple[int, int]]()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
