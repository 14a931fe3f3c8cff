"""The dashboard and the alerts ask for metrics and labels that there are."""

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
from batch_gateway.testing import simulated_gateway
from tests.metrics.every_layer import use_every_layer

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text("utf-8"))
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text("utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

_METRIC = re.compile(r"\b(batch_gateway_\w+)\s*(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(?:by|on|without)\s*\(([^)]*)\)")
# Not ours: Prometheus and the buckets of histograms add them.
_FOREIGN_LABELS = {"instance", "job", "le"}


def expressions() -> Iterator[tuple[str, str]]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every sample after that: its name and its labels."""
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    metrics.follow_run(RunStats(total=3))
    with simulated_gateway() as gateway:
        asyncio.run(use_every_layer(gateway.url, tmp_path_factory.mktemp("cache"), metrics))
    found: dict[str, set[str]] = {}
    for family in registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize(("place", "expression"), list(expressions()), ids=lambda text: text[:40])
def test_every_metric_and_label_exists(
    place: str, expression: str, samples: dict[str, set[str]]
) -> None:
    asked = _METRIC.findall(expression)
    assert asked, f"{place} asks for no metric"
    labels = set[str]()
    for name, conditions in asked:
        assert name in samples, f"{place} asks for {name}"
        assert set(_LABEL.findall(conditions)) <= samples[name], f"{place}: {name}{{{conditions}}}"
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


def test_every_metric_is_on_the_dashboard(samples: dict[str, set[str]]) -> None:
    shown = {name for _, text in expressions() for name, _ in _METRIC.findall(text)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples}
    assert ours - families == {"batch_gateway_build_info"}


def test_alert_rules_are_complete() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 5
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert {"summary", "description"} == set(rule["annotations"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_the_dashboard_has_whole_panels_that_do_not_overlap() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken = set[tuple[int, int]]()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + dx, place["y"] + dy)
            for dx in range(place["w"])
            for dy in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
