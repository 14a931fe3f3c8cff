"""Processes of one role each, which share a database: all that a service does, done together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.fernet import Fernet

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.errors import ConfigError, RecordsError
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.server_config import Role, ServerConfig
from batch_gateway.server.serving import RunningApi
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from tests.engine.batch_files import request, text_of
from tests.peers.postgres import PostgresServer

pytestmark = pytest.mark.anyio

# Far beyond what any of these takes, so that a fault ends the test.
PATIENCE = 60.0

Start = Callable[[Role], AbstractAsyncContextManager[RunningApi]]


@contextlib.asynccontextmanager
async def a_fleet(
    folder: Path, database: str, simulated: SimulatorConfig | None = None, **settings: Any
) -> AsyncIterator[tuple[SimulatedGateway, Start]]:
    """A simulated gateway, and what starts processes that send to it."""
    async with SimulatedGateway(simulated or SimulatorConfig.instant()) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, circuit_breaker=patient_breaker())
        anywhere = ServerConfig(port=0, observability_port=0, **settings)

        def start(role: Role) -> AbstractAsyncContextManager[RunningApi]:
            return serve_from_folder(
                folder / "data",
                Routing() if role is Role.API else Routing(default=config),
                anywhere,
                ProcessorConfig(shutdown_timeout=0.2, poll_interval=0.2),
                role=role,
                database=database,
                concurrency=4,
            )

        yield gateway, start


async def submit(http: httpx2.AsyncClient, lines: int, model: str = "m") -> str:
    """The id of a new batch of so many lines."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    data = text_of([request(f"c{number}", body=body) for number in range(lines)])
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", data)}}
    file = (await http.post("/v1/files", **form)).json()
    wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = await http.post("/v1/batches", json=wanted | {"input_file_id": file["id"]})
    return answer.json()["id"]


async def until(http: httpx2.AsyncClient, batch_id: str, status: str) -> dict[str, object]:
    async with asyncio.timeout(PATIENCE):
        while (found := (await http.get(f"/v1/batches/{batch_id}")).json())["status"] != status:
            await asyncio.sleep(0.02)
    return found


async def test_what_one_process_takes_in_another_does(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.new_database_with_tables()
    async with (
        a_fleet(tmp_path, url) as (gateway, start),
        start(Role.API) as api,
        httpx2.AsyncClient(base_url=api.url) as http,
    ):
        batch_id = await submit(http, 30)
        assert list(gateway.journal.recent) == []
        async with start(Role.WORKER) as worker, start(Role.WORKER):
            batch = await until(http, batch_id, "completed")
            assert batch["request_counts"] == {"total": 30, "completed": 30, "failed": 0}
            content = await http.get(f"/v1/files/{batch['output_file_id']}/content")
            assert len(content.text.splitlines()) == 30
            assert not worker.url
            async with httpx2.AsyncClient(base_url=worker.observability_url) as other:
                assert (await other.get("/ready")).text == "ok"
                assert "jobs_processed" in (await other.get("/metrics")).text
                assert (await other.get("/v1/batches")).status_code == 404
        assert (await http.get("/v1/batches")).json()["data"][0]["id"] == batch_id


async def test_a_batch_that_is_cancelled_at_one_process_is_stopped_at_another(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.new_database_with_tables()
    async with (
        a_fleet(tmp_path, url) as (gateway, start),
        start(Role.API) as api,
        start(Role.WORKER),
        httpx2.AsyncClient(base_url=api.url) as http,
    ):
        batch_id = await submit(http, 3, model="fault-stall")
        async with asyncio.timeout(PATIENCE):
            while not gateway.journal.in_flight:
                await asyncio.sleep(0.01)
        await http.post(f"/v1/batches/{batch_id}/cancel")
        batch = await until(http, batch_id, "cancelled")
        assert batch["request_counts"] == {"total": 3, "completed": 0, "failed": 3}


async def test_a_worker_that_cannot_read_what_batches_pass_on_does_not_start(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.new_database_with_tables()
    passes = {"pass_through_headers": ("X-Team",), "header_keys": [Fernet.generate_key().decode()]}
    async with (
        a_fleet(tmp_path, url, **passes) as (_, start),
        start(Role.API) as api,
        httpx2.AsyncClient(base_url=api.url, headers={"X-Team": "blue"}) as http,
    ):
        await submit(http, 1)
        for keys, said in (((), "without the keys"), ([Fernet.generate_key().decode()], "another")):
            async with a_fleet(tmp_path, url, header_keys=keys) as (_, start_other):
                with pytest.raises(ConfigError, match=f"^header_keys: .*{said}"):
                    async with start_other(Role.WORKER):
                        pass


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
async def test_one_role_alone_needs_a_database_to_share(tmp_path: Path, role: Role) -> None:
    start = partial(serve_from_folder, tmp_path, Routing(), ServerConfig(), ProcessorConfig())
    with pytest.raises(ConfigError, match=rf"^role: {role} needs --database: records in a folder"):
        async with start(role=role):
            pass


async def test_a_database_that_cannot_be_reached_is_named_without_its_password(
    tmp_path: Path,
) -> None:
    start = partial(serve_from_folder, tmp_path, Routing(), ServerConfig(), ProcessorConfig())
    url = "postgresql://me:secret@127.0.0.1:1/d"
    with pytest.raises(RecordsError) as caught:
        async with start(role=Role.API, database=url):
            pass
    assert str(caught.value).startswith("postgresql://me@127.0.0.1:1/d cannot be reached: ")
