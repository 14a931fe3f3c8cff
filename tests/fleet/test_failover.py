"""The database fails over in the middle of a batch: its machine is gone, its name leads to a copy
that takes no writes yet, and then the copy is promoted."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from batch_gateway.testing import simulated_gateway
from tests.fleet.chaos import LATENCY_SCALE
from tests.fleet.relay import relaying
from tests.fleet.running import PATIENCE, Fleet
from tests.peers.object_stores import running_seaweed
from tests.peers.postgres import PostgresServer, running_postgres

LINES = 600


class MovingFleet(Fleet):
    """One whose API reaches the database by a way of its own, too."""

    def start_api(self) -> None:
        url = self._url.replace(str(self.database.port), str(self.ways[-1].port))
        self.api = self._start("api", url, "--port", self._api_port)
        self._wait_for(self.api)

    def move_to(self, copy: PostgresServer) -> None:
        self.look()
        self.database.signal(signal.SIGKILL)
        for way in self.ways:
            way.target = copy.port
        self.database = copy

    def sees_nothing_taken(self, batch_id: str) -> None:
        """Polls are answered from the copy, and what would be written is refused for a while."""
        end = time.monotonic() + PATIENCE
        with httpx2.Client(base_url=self.url, timeout=60) as http:
            while http.get(f"/v1/batches/{batch_id}").status_code != 200:
                assert time.monotonic() < end, self.logs()
                time.sleep(0.1)
            for _ in range(10):
                form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", b"{}\n")}}
                refused = http.post("/v1/files", **form)
                assert refused.status_code == 503, refused.text
                assert int(refused.headers["retry-after"]) > 0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[MovingFleet]:
    folder, files = tmp_path / "fleet", tmp_path / "store"
    folder.mkdir()
    files.mkdir()
    with ExitStack() as stack:
        database = stack.enter_context(running_postgres("of-failovers"))
        database.make_template()
        store = stack.enter_context(running_seaweed(files))
        gateway = stack.enter_context(
            simulated_gateway(latency_scale=LATENCY_SCALE, output_tokens=1)
        )
        ways = [stack.enter_context(relaying(database.port)) for _ in range(3)]
        fleet = MovingFleet(folder, database, gateway, ways, store)
        stack.callback(fleet.end)
        fleet.start_api()
        for number in range(2):
            fleet.start_worker(number)
        yield fleet


@pytest.mark.timeout(600)
def test_a_batch_goes_on_at_the_copy_once_that_is_promoted(fleet: MovingFleet) -> None:
    with fleet.database.followed() as copy:
        batch_id = fleet.submit(LINES)
        fleet.wait_for_lines(100)
        assert fleet.lines_left() > 0
        fleet.move_to(copy)
        fleet.sees_nothing_taken(batch_id)
        copy.execute("SELECT pg_promote()")
        fleet.wait_for_ends()
        fleet.check()
        told = [line for line in fleet.logs().splitlines() if "read-only" in line]
        # Each of three processes says so, and not of each request that meets it.
        assert 1 <= len(told) <= 6, told
