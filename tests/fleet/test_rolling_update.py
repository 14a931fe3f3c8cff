"""A fleet of an earlier version becomes today's in the middle of its work, one process at a time:
what runs goes on, each line once, and nothing registered is sent again."""

from __future__ import annotations

import asyncio
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from batch_gateway.service.migrate import NEWEST
from batch_gateway.service.open_database import open_database
from batch_gateway.testing import simulated_gateway
from tests.fleet.chaos import LATENCY_SCALE
from tests.fleet.relay import relaying
from tests.fleet.running import Fleet
from tests.peers.object_stores import running_seaweed
from tests.peers.postgres import running_postgres
from tests.service.newer_version import NEXT, migrate_with_the_next_version

BEFORE = "c9cf82c654a91607c1da17b14953532bc3178f91"
"""Its tables are older than today's."""
LINES = 600
REPOSITORY = Path(__file__).resolve().parents[2]


class UpdatedFleet(Fleet):
    """One whose tables are made by whoever starts first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._url = self.database.new_database()
        self.name = self._url.rpartition("/")[2]

    def version(self) -> str:
        return self.database.execute("SELECT version_num FROM alembic_version", self.name)

    @property
    def place(self) -> tuple[str, str]:
        """Of its records, as `migrate` is told it."""
        return "--database", self._url

    def migrate(self) -> None:
        """As today's `batch-gateway migrate` does."""

        async def bring_up_to_date() -> None:
            await (await open_database(self._url)).aclose()

        asyncio.run(bring_up_to_date())

    def replace_worker(self, number: int) -> None:
        """As a rolling update does: the old one is told to stop, and a new one comes."""
        self.look()
        assert self.started_worker(number).stop() == 0, self.logs()
        self.look()
        self.start_worker(number)
        self.started_worker(number)

    def replace_api(self) -> None:
        assert self.api is not None
        assert self.api.stop() == 0, self.logs()
        self.start_api()


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The repository as it was."""
    archive = tmp_path / "earlier.tar"
    command = ["git", "archive", f"--output={archive}", BEFORE, "src", "tests/fleet"]
    try:
        subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"the history of the repository is not there, and {BEFORE} with it")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "earlier", filter="data")
    return tmp_path / "earlier"


@contextmanager
def a_fleet(folder: Path, code: Path) -> Iterator[UpdatedFleet]:
    """Of the version that `code` is, started."""
    files = folder / "store"
    for made in (folder / "fleet", files):
        made.mkdir()
    with ExitStack() as stack:
        database = stack.enter_context(running_postgres("of-updates"))
        database.make_template()
        store = stack.enter_context(running_seaweed(files))
        scale = {"latency_scale": LATENCY_SCALE, "output_tokens": 1}
        gateway = stack.enter_context(simulated_gateway(**scale))
        ways = [stack.enter_context(relaying(database.port)) for _ in range(2)]
        fleet = UpdatedFleet(folder / "fleet", database, gateway, ways, store, code=code)
        stack.callback(fleet.end)
        fleet.start_api()
        for number in range(2):
            fleet.start_worker(number)
        yield fleet


@pytest.fixture
def fleet(tmp_path: Path, earlier: Path) -> Iterator[UpdatedFleet]:
    """Of the earlier version."""
    with a_fleet(tmp_path, earlier) as fleet:
        yield fleet


@pytest.mark.timeout(600)
def test_running_batches_go_on_while_processes_are_replaced_one_by_one(
    fleet: UpdatedFleet,
) -> None:
    fleet.submit(LINES)
    fleet.wait_for_lines(50)
    old = fleet.version()
    assert old < NEWEST
    fleet.migrate()
    assert fleet.version() == NEWEST
    # Those that run know nothing of it.
    fleet.submit(LINES)
    fleet.wait_for_lines(50)
    fleet.code = REPOSITORY
    fleet.replace_worker(0)
    fleet.wait_for_lines(50)
    fleet.replace_api()
    # What the new API takes, the old worker does, too.
    fleet.submit(LINES)
    fleet.wait_for_lines(50)
    assert fleet.lines_left() > 0
    fleet.replace_worker(1)
    fleet.wait_for_ends()
    fleet.check()


@pytest.mark.timeout(600)
def test_processes_that_crash_after_the_next_version_has_migrated_come_back(
    tmp_path: Path,
) -> None:
    with a_fleet(tmp_path, REPOSITORY) as fleet:
        fleet.submit(LINES)
        fleet.wait_for_lines(50)
        migrate_with_the_next_version(tmp_path, *fleet.place)
        assert fleet.version() == NEXT
        fleet.wait_for_lines(50)
        worker = fleet.started_worker(0)
        worker.kill()
        fleet.look_after_a_kill()
        fleet.start_worker(0)
        fleet.started_worker(0)
        assert fleet.api is not None
        fleet.api.kill()
        fleet.start_api()
        fleet.submit(LINES)
        fleet.wait_for_ends()
        fleet.check()
