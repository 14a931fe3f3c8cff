"""A database of its own for each test, of the kinds that the test is to hold on."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from batch_gateway.service.database import Database
from batch_gateway.service.open_database import open_database
from tests.peers.postgres import PostgresServer

Place = Path | str


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a database is that nobody uses yet."""
    if request.param == "sqlite":
        return tmp_path / "records.sqlite3"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database_with_tables()


@pytest.fixture(params=["sqlite", "postgres"])
def new_places(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """Makes places where there is nothing yet, not even tables."""
    if request.param == "sqlite":
        return lambda: Path(tempfile.mkdtemp(dir=tmp_path)) / "new" / "records.sqlite3"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database


@pytest.fixture
async def database(place: Place) -> AsyncIterator[Database]:
    opened = await open_database(place)
    yield opened
    await opened.aclose()
