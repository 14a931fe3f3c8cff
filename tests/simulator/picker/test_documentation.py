"""docs/simulated-pool.md names every setting, option and fault of the picker."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click

from batch_gateway.cli.simulate_pool import pool_options
from batch_gateway.simulator.picker.picker_faults import PICKER_FAULTS
from batch_gateway.testing import PickerConfig, PoolHandle

TEXT = (Path(__file__).parents[3] / "docs" / "simulated-pool.md").read_text("utf-8")


def section(heading: str) -> str:
    return TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def names_in(text: str, column: int = 0) -> set[str]:
    """What stands in code in one column of the tables of a text."""
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    cells = [row.split(" | ")[column] for row in rows]
    return {name for cell in cells for name in re.findall(r"`([a-z-]\w[\w-]*)", cell)}


def test_the_settings_are_those_that_exist() -> None:
    table = section("Settings of the picker").partition("\n**Choice")[0]
    assert names_in(table) == {field.name for field in dataclasses.fields(PickerConfig)}


def test_the_options_are_those_that_exist() -> None:
    @pool_options
    @click.command()
    def command() -> None:
        """Has nothing but them."""

    flags = {flag for parameter in command.params for flag in parameter.opts}
    assert flags == set(re.findall(r"`(--(?!prefix-cache|objective)[a-z-]+)", TEXT)) | {
        flag for flag in ("--pods", "--picker-port") if f" {flag} " in TEXT
    }


def test_the_faults_are_those_that_exist() -> None:
    assert names_in(section("Faults of the picker")) - {"status-NNN"} == set(PICKER_FAULTS)


def test_what_a_handle_offers_is_described() -> None:
    table = section("In tests").partition("\nIn asynchronous")[0]
    offered = {name for name in dir(PoolHandle) if not name.startswith("_")}
    assert names_in(table) - {"PoolHandle", "ip"} == offered | {"url", "health_port", "pods"}
