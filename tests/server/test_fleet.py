"""A fleet of real processes on PostgreSQL and one folder: a worker is told to stop, and the other
ends its work at once. `tests.fleet` has all harms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.commands_to_kill import times_received
from tests.engine.batch_files import request, text_of
from tests.peers.postgres import PostgresServer
from tests.server.served_folder import ServedFolder, a_served_folder, until

BATCHES, LINES = 2, 500


class Fleet:
    """An API, two workers, and a batch for each of them under way."""

    def __init__(self, folder: Path, gateway: GatewayHandle, http: httpx2.Client) -> None:
        self._folder, self._gateway, self._http = folder, gateway, http
        self.api: ServedFolder
        self.workers: list[ServedFolder] = []
        self.ids: list[str] = []

    def submit(self) -> None:
        lines = text_of(request(f"id-{number}") for number in range(LINES))
        self.ids.append(self.api.submit(self._http, lines))

    def batch(self, batch_id: str) -> dict[str, object]:
        return self._http.get(f"/v1/batches/{batch_id}").json()

    def progress(self) -> list[int]:
        counts = [self.batch(one)["request_counts"] for one in self.ids]
        return [one["completed"] for one in counts if isinstance(one, dict)]

    def safe(self) -> dict[str, int]:
        """The lines whose results are stored, and how often the gateway was asked for each."""
        parts = (self._folder / "data" / "files" / "objects" / "batches").rglob("*-*.*")
        lines = [line for part in parts for line in part.read_bytes().splitlines()]
        received = times_received(self._gateway)
        return {one: received[one] for line in lines if (one := json.loads(line)["id"])}

    def finish(self) -> None:
        """Each line of each batch once in its files, which are what it counts."""
        until(lambda: all(self.batch(one)["status"] == "completed" for one in self.ids))
        for one in self.ids:
            batch = self.batch(one)
            assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
            text = self._http.get(f"/v1/files/{batch['output_file_id']}/content").text
            found = sorted(json.loads(line)["custom_id"] for line in text.splitlines())
            assert found == sorted(f"id-{number}" for number in range(LINES))

    def asked_again(self, safe: dict[str, int]) -> set[str]:
        """Which of the lines whose results were stored the gateway was asked for once more."""
        received = times_received(self._gateway)
        return {one for one, times in safe.items() if received[one] != times}


@contextmanager
def a_fleet(folder: Path, database: str) -> Iterator[Fleet]:
    config = folder / "fleet.yaml"
    # Nothing is found by the lease.
    config.write_text(f"lease: 1h\npoll_interval: 0.2s\ndatabase: {database}\n")
    shared = ("--config", config, "--data", folder / "data")
    with ExitStack() as stack:
        gateway = stack.enter_context(simulated_gateway(latency_scale=1.0, output_tokens=1))

        def member(role: str, number: int) -> ServedFolder:
            place = folder / f"{role}{number}"
            place.mkdir()
            started = a_served_folder(place, gateway, *shared, "--role", role)
            one = stack.enter_context(started)
            stack.callback(_end, one)
            return one

        api = member("api", 0)
        http = stack.enter_context(httpx2.Client(base_url=api.url, timeout=60))
        fleet = Fleet(folder, gateway, http)
        fleet.api = api
        fleet.workers = [member("worker", number) for number in range(2)]
        for _ in range(BATCHES):
            fleet.submit()
        until(lambda: all(fleet.progress()))
        yield fleet


def _end(member: ServedFolder) -> None:
    """Of whatever is left: it says nothing that it should not have said, and goes."""
    with suppress(ProcessLookupError):
        member.terminate()
    assert member.exit_code() == 0
    assert "Traceback" not in member.log(), member.log()


@pytest.fixture
def fleet(tmp_path: Path, postgres: PostgresServer) -> Iterator[Fleet]:
    with a_fleet(tmp_path, postgres.new_database_with_tables()) as fleet:
        yield fleet


def test_a_worker_that_is_told_to_stop_hands_over_at_once(fleet: Fleet) -> None:
    fleet.workers[0].terminate()
    safe = fleet.safe()
    fleet.finish()
    assert fleet.asked_again(safe) == set()
