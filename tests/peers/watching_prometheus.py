"""A real Prometheus that scrapes one page, and the questions that Grafana asks of it."""

from __future__ import annotations

import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.peers.debian import debian_package
from tests.peers.processes import accepts_connections, free_port, running_process

__all__ = ["DEPLOY", "Prometheus", "targets_of", "watching"]

LIMIT_S = 30.0
POLL_S = 0.1
DEPLOY = Path(__file__).parents[2] / "deploy"
GRAFANA_FILLS_IN = {"$__rate_interval": "1m", "$gateway": ".*", "$model": ".*", "$instance": ".*"}


def targets_of(dashboard: str) -> list[tuple[str, str]]:
    """(panel and query, expression) of everything on a dashboard, as Grafana asks it."""
    whole = json.loads((DEPLOY / "grafana" / dashboard).read_text("utf-8"))
    found: list[tuple[str, str]] = []
    for panel in whole["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in GRAFANA_FILLS_IN.items():
                expression = expression.replace(variable, value)
            found.append((f"{panel['title']} {target['refId']}", expression))
    return found


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

    def expect_all_to_be_well(self) -> None:
        """The page is scraped without an error, and every rule of the alerts was evaluated."""
        self.wait_for(
            lambda: all(rule["health"] == "ok" for rule in self._rules()), "a verdict on every rule"
        )
        assert len(self._rules()) >= 11
        self.wait_for(lambda: self._scrapes() == [("up", "")], "a scrape in good order")

    def _rules(self) -> list[dict[str, Any]]:
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def _scrapes(self) -> list[tuple[str, str]]:
        targets = self.ask("targets")["activeTargets"]
        return [(target["health"], target["lastError"]) for target in targets]


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
