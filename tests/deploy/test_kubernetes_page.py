"""The values that the page on Kubernetes shows are those of the chart."""

from __future__ import annotations

import re
from pathlib import Path

import promql_parser
import pytest
import yaml

from tests.deploy.chart_schema import CHART
from tests.deploy.rendering import helm, rendered
from tests.deploy.validators import problems
from tests.documents.blocks import Block, blocks

pytestmark = [pytest.mark.peer("helm"), pytest.mark.timeout(600)]

OURS = [block for block in blocks() if block.path.name == "kubernetes.md"]
VALUES = [block for block in OURS if block.note == "values"]
[ADAPTER] = [block for block in OURS if block.note == "adapter"]


@pytest.mark.parametrize("block", VALUES, ids=str)
def test_values_are_taken_as_printed(block: Block, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(block.code, "utf-8")
    done = helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout
    assert problems(rendered(values), tmp_path) == []


def test_the_rule_of_the_adapter_makes_the_metric_that_is_asked_for(tmp_path: Path) -> None:
    [rule] = yaml.safe_load(ADAPTER.code)["rules"]["external"]
    promql_parser.parse(rule["metricsQuery"].replace("<<.LabelMatchers>>", 'namespace="b"'))
    # Without a name of its own the metric has that of the series.
    assert "name" not in rule
    values = CHART / "ci" / "hpa-values.yaml"
    asked = re.findall(r"name: (batch_\w+)", helm("template", str(CHART), "-f", str(values)).stdout)
    assert asked == [rule["seriesQuery"]]
