"""Whatever is harmed, every batch ends, each line once, and nothing registered is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fleet.chaos import a_fleet
from tests.fleet.harms import HARMS
from tests.peers.object_stores import Seaweed, running_seaweed
from tests.peers.postgres import PostgresServer, running_postgres

LINES = 600
SECONDS = 4.0
"""How long something is gone: longer than the lease."""


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    with running_postgres("of-drills") as server:
        server.make_template()
        yield server


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with running_seaweed(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("harm", HARMS)
def test_a_batch_goes_on_when(
    harm: str, tmp_path: Path, database: PostgresServer, store: Seaweed
) -> None:
    with a_fleet(tmp_path, database, store, workers=2) as fleet:
        fleet.submit(LINES)
        fleet.wait_for_lines(100)
        assert fleet.lines_left() > 0
        HARMS[harm](fleet, Random(7), SECONDS)
        fleet.wait_for_ends()
        fleet.check()
