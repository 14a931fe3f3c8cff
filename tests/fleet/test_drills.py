"""Whatever is harmed, every batch ends, each line once, and nothing registered is sent again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from threading import Lock

import pytest

from tests.fleet.chaos import a_fleet
from tests.fleet.harms import HARMS, HARMS_TO_THE_DATABASE, HARMS_TO_THE_STORE
from tests.peers.object_stores import Seaweed, running_seaweed
from tests.peers.postgres import PostgresServer, running_postgres

LINES = 600
SECONDS = 4.0
"""How long something is gone: longer than the lease."""
SIDE_BY_SIDE = 4
"""Drills at a time: most of each is waiting."""
MAKING_TABLES = Lock()
"""Alembic knows of one migration in a process."""

pytestmark = [pytest.mark.timeout(600), pytest.mark.serves_a_module]


@pytest.fixture(scope="module")
def drills(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Future[None]]]:
    """Those that are asked for, all under way. What is not harmed they share."""
    tests = {item.name for item in request.session.items}
    asked = [harm for harm in HARMS if f"{test_a_batch_goes_on_when.__name__}[{harm}]" in tests]
    folders = {harm: tmp_path_factory.mktemp("drill") for harm in asked}
    with ExitStack() as stack:
        database = stack.enter_context(drilled_postgres())
        store = stack.enter_context(running_seaweed(tmp_path_factory.mktemp("store")))
        pool = stack.enter_context(ThreadPoolExecutor(SIDE_BY_SIDE, "drill"))
        yield {harm: pool.submit(drill, harm, folders[harm], database, store) for harm in asked}


@contextmanager
def drilled_postgres() -> Iterator[PostgresServer]:
    with running_postgres("of-drills") as server:
        with MAKING_TABLES:
            server.make_template()
        yield server


def drill(harm: str, folder: Path, database: PostgresServer, store: Seaweed) -> None:
    with ExitStack() as stack:
        if harm in HARMS_TO_THE_DATABASE:
            database = stack.enter_context(drilled_postgres())
        if harm in HARMS_TO_THE_STORE:
            store = stack.enter_context(running_seaweed(folder))
        fleet = stack.enter_context(a_fleet(folder, database, store, workers=2))
        fleet.submit(LINES)
        fleet.wait_for_lines(100)
        assert fleet.lines_left() > 0
        HARMS[harm](fleet, Random(7), SECONDS)
        fleet.wait_for_ends()
        fleet.check()


@pytest.mark.parametrize("harm", HARMS)
def test_a_batch_goes_on_when(harm: str, drills: Mapping[str, Future[None]]) -> None:
    drills[harm].result()
