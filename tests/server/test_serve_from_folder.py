"""The whole service in one process: how its parts begin and end together."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.errors import ConfigError
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.serving import RunningApi
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from tests.engine.batch_files import request, text_of

pytestmark = pytest.mark.anyio

# Far beyond what any of these takes, so that a fault ends the test.
PATIENCE = 60.0


def _service(
    folder: Path, gateway: SimulatedGateway, *, port: int = 0, patience: float = 0.2
) -> contextlib.AbstractAsyncContextManager[RunningApi]:
    return serve_from_folder(
        folder,
        Routing(default=HTTPInferenceClientConfig(gateway.url, circuit_breaker=patient_breaker())),
        ServerConfig(port=port, observability_port=0, shutdown_timeout=PATIENCE),
        ProcessorConfig(shutdown_timeout=patience),
        concurrency=4,
    )


@contextlib.asynccontextmanager
async def _never_answered(
    http: httpx2.AsyncClient, gateway: SimulatedGateway
) -> AsyncIterator[str]:
    """A batch whose requests are at the gateway; its id."""
    body = {"model": "fault-stall", "messages": [{"role": "user", "content": "x"}]}
    batch_id = await _submit(http, body, 3)
    async with asyncio.timeout(PATIENCE):
        while gateway.journal.in_flight < 1:
            await asyncio.sleep(0.01)
    yield batch_id


async def _submit(http: httpx2.AsyncClient, body: dict[str, object], lines: int) -> str:
    """The id of a new batch of so many such requests."""
    data = text_of([request(f"c{number}", body=body) for number in range(lines)])
    form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", data)}}
    file = (await http.post("/v1/files", **form)).json()
    wanted = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    batch = await http.post("/v1/batches", json=wanted | {"input_file_id": file["id"]})
    return batch.json()["id"]


async def test_requests_at_the_gateway_end_while_a_slow_download_still_goes_on(
    tmp_path: Path,
) -> None:
    async with SimulatedGateway(SimulatorConfig.instant()) as gateway:
        stack = contextlib.AsyncExitStack()
        running = await stack.enter_async_context(_service(tmp_path, gateway))
        async with httpx2.AsyncClient(base_url=running.url) as http:
            form = {"data": {"purpose": "vision"}, "files": {"file": ("f", b"x" * 30_000_000)}}
            file = (await http.post("/v1/files", **form)).json()
            async with _never_answered(http, gateway):
                pass
        url = urlsplit(running.url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port, limit=1024)
        writer.write(f"GET /v1/files/{file['id']}/content HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readexactly(100)
        leaving = asyncio.create_task(stack.aclose())
        async with asyncio.timeout(PATIENCE / 2):
            while gateway.journal.in_flight:
                await asyncio.sleep(0.01)
        assert not leaving.done()
        writer.close()
        await leaving


async def test_nothing_is_sent_by_a_service_whose_port_is_taken(tmp_path: Path) -> None:
    async with SimulatedGateway(SimulatorConfig.instant()) as gateway:
        async with (
            _service(tmp_path, gateway) as running,
            httpx2.AsyncClient(base_url=running.url) as http,
            _never_answered(http, gateway),
        ):
            pass
        received = gateway.journal.received
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match="cannot listen on"):
                async with _service(tmp_path, gateway, port=port):
                    pass
        assert gateway.journal.received == received


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_gateway_that_fails_from_the_first_request_on_is_waited_for_with_its_words(
    tmp_path: Path, status: int
) -> None:
    async with (
        SimulatedGateway(SimulatorConfig.instant()) as gateway,
        _service(tmp_path, gateway) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
    ):
        body = {
            "model": f"fault-status-{status}",
            "messages": [{"role": "user", "content": "x"}],
        }
        path = f"/v1/batches/{await _submit(http, body, 200)}"
        async with asyncio.timeout(PATIENCE):
            while "is failing" not in ((await http.get(path)).json().get("notice") or ""):
                await asyncio.sleep(0.05)
        batch = (await http.get(path)).json()
        assert f"HTTP {status}" in batch["notice"]
        assert batch["status"] == "in_progress"
        assert batch["request_counts"]["failed"] < 100
        await http.post(f"{path}/cancel")


async def test_requests_that_make_the_gateway_fail_hold_up_no_later_batch_of_the_same_user(
    tmp_path: Path,
) -> None:
    async with (
        SimulatedGateway(SimulatorConfig.instant()) as gateway,
        _service(tmp_path, gateway) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
    ):
        messages = [{"role": "user", "content": "x"}]
        poison: dict[str, object] = {"model": "fault-status-500", "messages": messages}
        path = f"/v1/batches/{await _submit(http, poison, 12)}"
        async with asyncio.timeout(PATIENCE):
            while "is failing" not in ((await http.get(path)).json().get("notice") or ""):
                await asyncio.sleep(0.05)
            good = f"/v1/batches/{await _submit(http, poison | {'model': 'm'}, 40)}"
            while (batch := (await http.get(good)).json())["status"] != "completed":
                await asyncio.sleep(0.05)
        assert batch["request_counts"] == {"total": 40, "completed": 40, "failed": 0}
        await http.post(f"{path}/cancel")


@pytest.mark.parametrize("host", ["", " ", "[::1]", "a" * 70, "a..b"])
async def test_a_host_that_is_none_is_told_as_such(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError) as raised:
        async with serve_from_folder(
            tmp_path,
            Routing(default=HTTPInferenceClientConfig("http://127.0.0.1:1")),
            ServerConfig(host=host, port=0, observability_port=0),
            ProcessorConfig(),
        ):
            pass
    assert raised.value.field == "host"
