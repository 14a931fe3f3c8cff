"""Batches of one service share its gateway by urgency, and evenly by tenant: over sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from tests.engine.batch_files import request, text_of

pytestmark = pytest.mark.anyio

# Far beyond what any of these takes, so that a fault ends the test.
PATIENCE = 120.0


class Service:
    """What users of a service do, each under a name."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def submit(self, lines: int, *, window: str = "24h", tenant: str = "one") -> str:
        data = text_of(request(f"c{number}") for number in range(lines))
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", data)}}
        headers = {"X-MaaS-Username": tenant}
        file = (await self._http.post("/v1/files", headers=headers, **form)).json()
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": window}
        body = wanted | {"input_file_id": file["id"]}
        return (await self._http.post("/v1/batches", headers=headers, json=body)).json()["id"]

    async def done(self, batch_id: str, tenant: str = "one") -> int:
        """How many of its lines are."""
        headers = {"X-MaaS-Username": tenant}
        batch = (await self._http.get(f"/v1/batches/{batch_id}", headers=headers)).json()
        return batch["request_counts"]["completed"]

    async def until(self, lines: int, batch_id: str, tenant: str = "one") -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.done(batch_id, tenant) < lines:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def a_service(folder: Path) -> AsyncIterator[Service]:
    async with SimulatedGateway(SimulatorConfig.instant(latency_scale=0.1)) as gateway:
        config = HTTPInferenceClientConfig(gateway.url, circuit_breaker=patient_breaker())
        serving = serve_from_folder(
            folder,
            Routing(default=config),
            ServerConfig(port=0, observability_port=0),
            ProcessorConfig(shutdown_timeout=0.2),
            concurrency=8,
        )
        async with serving as running, httpx2.AsyncClient(base_url=running.url) as http:
            yield Service(http)


@pytest.mark.specified("turns.urgency")
async def test_a_batch_due_in_an_hour_passes_the_lines_of_one_that_is_due_tomorrow(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path) as service:
        large = await service.submit(20_000)
        await service.until(1, large)
        urgent = await service.submit(300, window="1h")
        before = await service.done(large)
        await service.until(300, urgent)
        meanwhile = await service.done(large) - before
        # One place in sixteen, what was under way, and what was not counted yet.
        assert 0 < meanwhile < 200


@pytest.mark.specified("turns.tenants")
async def test_ten_tenants_come_equally_far_however_large_their_batches_are(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        batches = {
            f"tenant-{number}": await service.submit(100 + 25 * number, tenant=f"tenant-{number}")
            for number in reversed(range(10))
        }
        for tenant, batch in batches.items():
            await service.until(1, batch, tenant)
        before = {tenant: await service.done(batch, tenant) for tenant, batch in batches.items()}
        await service.until(100, batches["tenant-0"], "tenant-0")
        shares = [
            await service.done(batch, tenant) - before[tenant] for tenant, batch in batches.items()
        ]
        assert min(shares) > 0.7 * max(shares)
