"""The alert rules before Prometheus' own tool: it takes them, and they ring when they should."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.peers.debian import debian_package

pytestmark = pytest.mark.peer("prometheus")

LIMIT_S = 60
RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "alerts.yaml"
CASES = Path(__file__).parent / "prometheus" / "alerts_test.yaml"


def promtool(*arguments: str) -> str:
    tool = debian_package("prometheus") / "usr" / "bin" / "promtool"
    done = subprocess.run(
        [tool, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT_S,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    return said


def test_prometheus_takes_the_alert_rules() -> None:
    assert "SUCCESS: 11 rules found" in promtool("check", "rules", "--lint-fatal", str(RULES))


def test_each_alert_rings_when_it_should_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", str(CASES))
