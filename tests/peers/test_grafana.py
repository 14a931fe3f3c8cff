"""The dashboards before the classes that Grafana generates from its schemas."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.peers.installing import peer_environment

pytestmark = pytest.mark.peer("grafana")

LIMIT_S = 60
DASHBOARDS = Path(__file__).parents[2] / "deploy" / "grafana"
SCRIPT = Path(__file__).parent / "grafana" / "unknown_fields.py"
# What Grafana's editor shows of a query of a variable; its schema leaves it out.
KNOWN_ALL_THE_SAME = re.compile(r"\.templating\.list\[\d+\]\.definition")


def unknown_fields(dashboard: Path) -> set[str]:
    python = peer_environment("grafana", ["grafana-foundation-sdk==1769699998!10.1.0"])
    done = subprocess.run(
        [python, SCRIPT, dashboard], capture_output=True, timeout=LIMIT_S, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    found = done.stdout.decode().split()
    return {field for field in found if not KNOWN_ALL_THE_SAME.fullmatch(field)}


@pytest.mark.parametrize("name", ["dashboard.json", "service.json"])
def test_grafana_knows_every_field_of_the_dashboards(name: str) -> None:
    assert unknown_fields(DASHBOARDS / name) == set()


@pytest.mark.parametrize(
    ("misspell", "field"),
    [
        (lambda panel: panel["options"].update(legends={}), ".options.legends"),
        (lambda panel: panel["targets"][0].update(legend=""), ".targets[0].legend"),
        (lambda panel: panel["fieldConfig"]["defaults"].update(units="s"), ".units"),
        (lambda panel: panel.update(gridPosition={}), ".gridPosition"),
    ],
)
def test_a_misspelt_field_would_be_noticed(
    misspell: Callable[[dict[str, Any]], None], field: str, tmp_path: Path
) -> None:
    dashboard = json.loads((DASHBOARDS / "dashboard.json").read_text("utf-8"))
    misspell(next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries"))
    (tmp_path / "dashboard.json").write_text(json.dumps(dashboard), "utf-8")
    [unknown] = unknown_fields(tmp_path / "dashboard.json")
    assert unknown.endswith(field)
