"""Rows of a page's tables that are made anew."""

from __future__ import annotations

import pytest

from benchmarks.worlds import document
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.document import COLUMNS, remade

PAGE = """Words | with bars

| world | best fixed | before | held out | controller |
|---|---|---|---|---|
| queues | 1 | 0.95 | 0.1 | old |
| refuses | 2 | 0.98 | 0.2 | old |

| world | held out |
|---|---|
| queues | 97 % |
"""


@pytest.fixture(autouse=True)
def _columns_that_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"best fixed": lambda world: world.name[0], "held out": lambda world: world.group}
    monkeypatch.setattr(document, "COLUMNS", columns)


def page(worlds: list[str], columns: list[str]) -> list[str]:
    return list(remade(PAGE, worlds, columns, "new"))


def test_a_row_is_made_anew_but_for_what_cannot_be_measured_now() -> None:
    lines = page(["queues"], ["best fixed", "held out"])
    assert lines[4] == "| queues | q | 0.95 | plain | new |"


def test_everything_else_on_the_page_stays_as_it_is() -> None:
    before = PAGE.split("\n")
    after = page(["queues"], ["best fixed", "held out"])
    assert [one for one in zip(before, after, strict=True) if one[0] != one[1]] == [
        (before[4], after[4])
    ]


def test_a_row_is_of_the_controller_that_its_held_out_figures_are_of() -> None:
    assert page(["refuses"], ["best fixed"])[5] == "| refuses | r | 0.98 | 0.2 | old |"
    assert page(["refuses"], ["held out"])[5] == "| refuses | 2 | 0.98 | plain | new |"


def test_every_world_stands_in_one_table_of_the_page() -> None:
    lines = document.PAGE.read_text("utf-8").split("\n")
    rows = [line.split("|")[1].strip() for line in lines if line.count("|") > 7]
    assert sorted(row for row in rows if row in WORLDS) == sorted(WORLDS)


def test_every_heading_of_the_page_that_can_be_measured_is_known() -> None:
    text = document.PAGE.read_text("utf-8")
    assert not [heading for heading in COLUMNS if f"| {heading} |" not in text]
