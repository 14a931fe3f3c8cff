"""The page on sizing says what the calculation says, and the calculation is one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks.sizing import Load, first_limits, needs, simulated_day, tables, workers_for
from tests.deploy.image_steps import ROOT

PAGE = ROOT / "docs" / "sizing.md"
LOADS = [Load(requests=10e6), Load(requests=100e6)]


def test_the_tables_of_the_page_are_those_of_the_calculation() -> None:
    found = re.search(
        r"<!-- sizing -->\n(.*?)\n<!-- end of sizing -->", PAGE.read_text("utf-8"), re.DOTALL
    )
    assert found, "python -m benchmarks.sizing"
    assert found[1] == tables(LOADS), "python -m benchmarks.sizing"


@pytest.mark.parametrize("load", LOADS, ids=["10M", "100M"])
def test_a_simulated_day_does_what_comes_and_is_the_same_each_time(load: Load) -> None:
    day = simulated_day(load)
    assert day == simulated_day(load)
    assert day.shards <= load.workers * load.shards
    # What comes by day is done by night: no more is left than a day brings.
    assert day.backlog < load.requests / 2
    assert 0 < day.longest < 86_400


def test_a_gateway_with_no_room_to_spare_leaves_more_and_more_behind() -> None:
    load = LOADS[0]
    assert simulated_day(replace(load, spare=0.9)).backlog > 3 * simulated_day(load).backlog / 2


def test_more_workers_store_more_and_smaller_parts() -> None:
    few, many = (simulated_day(replace(LOADS[1], workers=number)) for number in (1, 8))
    assert many.writes > 2 * few.writes
    # Each part of a batch writes four times a second and no more.
    assert few.writes <= 4 * few.shards


def test_slow_answers_need_more_workers_since_each_has_so_many_ports() -> None:
    assert workers_for(LOADS[1]) == 2
    assert workers_for(replace(LOADS[1], seconds=100)) >= 10


def test_the_model_servers_are_what_is_met_first() -> None:
    first, *others = first_limits(LOADS[0])
    assert "model server" in first.what
    assert all(one.requests >= first.requests for one in others)


def test_twice_the_requests_need_twice_of_what_is_proportional() -> None:
    once, twice = (dict(needs(Load(requests=requests))) for requests in (10e6, 20e6))
    assert once["files, a day"] == "50 GB"
    assert twice["files, a day"] == "100 GB"
