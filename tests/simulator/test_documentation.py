"""docs/simulator.md names every setting, fault and option."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from batch_gateway.simulator.faults import FAULT_OPTIONS, FAULTS
from batch_gateway.testing import SimulatorConfig

TEXT = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text("utf-8")


def names_in(section: str) -> set[str]:
    """What stands in code in the first column of a section's tables."""
    body = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]*) \|", body, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`;?([a-z0-9_-]+)", cell)}


def test_the_settings_are_those_that_exist() -> None:
    assert names_in("Settings") == {field.name for field in dataclasses.fields(SimulatorConfig)}


def test_the_faults_and_their_options_are_those_that_exist() -> None:
    assert names_in("Faults") - {"status-"} == set(FAULTS) | FAULT_OPTIONS
