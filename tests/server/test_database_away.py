"""A database that goes away in the middle of a batch: it is said, nothing is lost, all goes on."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from batch_gateway.server.server_config import Role
from batch_gateway.testing import SimulatorConfig
from tests.peers.postgres import PostgresServer, running_postgres
from tests.server.test_roles import PATIENCE, a_fleet, submit, until

pytestmark = pytest.mark.anyio

LINES = 400
SLOW = SimulatorConfig.small_gpu(seats=64, output_tokens=2, time_per_token=0.02)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """One that a test may do anything to."""
    with running_postgres() as running:
        yield running


async def progress(http: httpx2.AsyncClient, batch_id: str) -> int:
    async with asyncio.timeout(PATIENCE):
        while True:
            found = (await http.get(f"/v1/batches/{batch_id}")).json()["request_counts"]
            if found["completed"]:
                return found["completed"]
            await asyncio.sleep(0.02)


async def is_told(http: httpx2.AsyncClient, batch_id: str, observability_url: str) -> None:
    """That the database is away, in the API's form of an error, and to a load balancer."""
    answer = await http.get(f"/v1/batches/{batch_id}")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"]["type"] == "server_error"
    ready = await http.get(f"{observability_url}/ready")
    assert (ready.status_code, ready.text.startswith("not ready: postgresql://")) == (503, True)


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP])
async def test_batches_go_on_by_themselves_when_the_database_is_back(
    tmp_path: Path, server: PostgresServer, caplog: pytest.LogCaptureFixture, kind: signal.Signals
) -> None:
    url = server.new_database()
    async with (
        a_fleet(tmp_path, url, SLOW) as (gateway, start),
        start(Role.API) as api,
        start(Role.WORKER) as worker,
        httpx2.AsyncClient(base_url=api.url, timeout=PATIENCE) as http,
    ):
        batch_id = await submit(http, LINES)
        before = await progress(http, batch_id)
        server.signal(kind)
        for process in (api, worker):
            await is_told(http, batch_id, process.observability_url)
        if kind is signal.SIGKILL:
            polls = [http.get(f"/v1/batches/{batch_id}") for _ in range(20)]
            assert {one.status_code for one in await asyncio.gather(*polls)} == {503}
        with ExitStack() as stack:
            if kind is signal.SIGSTOP:
                server.signal(signal.SIGCONT)
            else:
                stack.enter_context(await asyncio.to_thread(_started, server))
            batch = await until(http, batch_id, "completed")
            assert batch["request_counts"] == {"total": LINES, "completed": LINES, "failed": 0}
            content = await http.get(f"/v1/files/{batch['output_file_id']}/content")
            assert len(content.text.splitlines()) == LINES
            assert before < LINES
            requests = gateway.journal.snapshot()["requests"].values()
            assert [one["received"] for one in requests] == [1] * LINES
            ours = [one for one in caplog.records if one.name.startswith("batch_gateway")]
            assert not [one for one in ours if one.exc_info]
            # One line of each process for each kind of trouble, whoever meets it how often.
            told = Counter(one.getMessage() for one in ours if one.levelno >= logging.ERROR)
            assert told
            assert max(told.values()) <= 2, told


def _started(server: PostgresServer) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(server.running())
    return stack
