"""The report of a batch that has ended: for its tenant alone, and whole after any restart."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import html
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.runs.gateways import Routing
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from tests.engine.batch_files import request, text_of

pytestmark = pytest.mark.anyio

PATIENCE = 60.0
ENDED = {"completed", "failed", "cancelled", "expired"}
NASTY = "<script>alert(1)</script>\u202e"


def lines_of(*models: str) -> bytes:
    messages = [{"role": "user", "content": "x"}]
    bodies = ({"model": model, "messages": messages} for model in models)
    return text_of([request(f"line-{number}", body=body) for number, body in enumerate(bodies)])


class Service:
    """A running service, and what its users do."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def submit(self, data: bytes, window: str = "24h", **headers: str) -> str:
        form = {"data": {"purpose": "batch"}, "files": {"file": ("in.jsonl", data)}}
        file = (await self.http.post("/v1/files", headers=headers, **form)).json()["id"]
        wanted = {"endpoint": "/v1/chat/completions", "completion_window": window}
        batch = await self.http.post(
            "/v1/batches", json=wanted | {"input_file_id": file}, headers=headers
        )
        return batch.json()["id"]

    async def wait(self, batch_id: str, **headers: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while (batch := await self.look(batch_id, **headers))["status"] not in ENDED:
                await asyncio.sleep(0.02)
        return batch

    async def until_some_are_done(self, batch_id: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not (await self.look(batch_id))["request_counts"]["completed"]:
                await asyncio.sleep(0.02)

    async def look(self, batch_id: str, **headers: str) -> dict[str, Any]:
        return (await self.http.get(f"/v1/batches/{batch_id}", headers=headers)).json()

    async def report(self, batch_id: str, **headers: str) -> str:
        answer = await self.http.get(f"/batches/{batch_id}/report", headers=headers)
        assert answer.status_code == 200, answer.text
        return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", answer.text)))


@contextlib.asynccontextmanager
async def serving(folder: Path, gateway: SimulatedGateway) -> AsyncIterator[Service]:
    async with (
        serve_from_folder(
            folder,
            Routing(default=HTTPInferenceClientConfig(gateway.url)),
            ServerConfig(port=0, observability_port=0),
            ProcessorConfig(shutdown_timeout=0.2),
            concurrency=4,
        ) as running,
        httpx2.AsyncClient(base_url=running.url) as http,
    ):
        yield Service(http)


@pytest.fixture
async def gateway() -> AsyncIterator[SimulatedGateway]:
    async with SimulatedGateway(SimulatorConfig.instant()) as simulator:
        yield simulator


@pytest.fixture
async def service(gateway: SimulatedGateway, tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, gateway) as running:
        yield running


async def test_the_report_of_a_batch_says_what_that_of_a_run_does(service: Service) -> None:
    batch_id = await service.submit(
        lines_of(*["a"] * 20, *["b"] * 10, "fault-status-400", "fault-status-503;times=1")
    )
    await service.wait(batch_id)
    page = (await service.http.get(f"/batches/{batch_id}")).text
    assert f"batches/{batch_id}/report" in page
    report = await service.report(batch_id)
    assert "Done, 1 of 32 requests failed" in report
    assert "31 of 32 lines succeeded" in report
    assert "1 retry" in report
    assert "Back to the batch" in report
    assert "HTTP 400" in report
    assert "line 31 line-30" in report
    assert "in.jsonl" in report
    assert f"batch_error_{batch_id}.jsonl" in report
    assert re.search(r"Tokens by model .* a 20 0 ", report)
    assert re.search(r" b 10 0 ", report)
    slowest = report.partition("The slowest lines")[2]
    assert len(re.findall(r"line-\d+ ", slowest)) == 20


async def test_the_page_of_a_report_lets_nothing_run_and_nothing_in(service: Service) -> None:
    batch_id = await service.submit(lines_of(NASTY, "m", f"fault-status-400;{NASTY}"))
    await service.wait(batch_id)
    answer = await service.http.get(f"/batches/{batch_id}/report")
    [policy] = answer.headers.get_list("content-security-policy")
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    [style] = re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert " style=" not in answer.text
    assert "<script" not in answer.text
    assert "\u202e" not in answer.text
    assert "&lt;script&gt;alert(1)" in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_a_report_is_for_its_tenant_alone_and_only_once_there_is_one(
    service: Service,
) -> None:
    mine = {"x-maas-username": "a"}
    done = await service.submit(lines_of("m"), **mine)
    await service.wait(done, **mine)
    for headers in ({}, {"x-maas-username": "b"}):
        answer = await service.http.get(f"/batches/{done}/report", headers=headers)
        assert answer.status_code == 404
    assert "The one request succeeded" in await service.report(done, **mine)
    unfinished = await service.submit(lines_of("fault-stall"))
    bad = await service.submit(b"{\n")
    await service.wait(bad)
    for batch_id in (unfinished, bad, "batch_none", "..%2f..", "%00"):
        assert (await service.http.get(f"/batches/{batch_id}/report")).status_code == 404
    for batch_id in (unfinished, bad):
        page = (await service.http.get(f"/batches/{batch_id}")).text
        assert f"{batch_id}/report" not in page


async def test_a_batch_that_was_cut_short_says_how_many_were_not_sent(service: Service) -> None:
    batch_id = await service.submit(lines_of("m", "m", "fault-status-400", *["fault-stall"] * 9))
    await service.until_some_are_done(batch_id)
    await service.http.post(f"/v1/batches/{batch_id}/cancel")
    counts = (await service.wait(batch_id))["request_counts"]
    report = await service.report(batch_id)
    unsent = counts["failed"] - ("HTTP 400" in report)
    assert f"Cancelled, {unsent} not sent" in report
    assert f"{counts['completed']} of 12 lines succeeded" in report
    late = await service.submit(lines_of("fault-stall"), window="500ms")
    await service.wait(late)
    assert "Not done in time, 1 not sent" in await service.report(late)


async def test_what_was_seen_before_a_restart_is_in_the_report_after_it(
    gateway: SimulatedGateway, tmp_path: Path
) -> None:
    # Some are done and the others stand still when the service is stopped.
    data = lines_of(*["m"] * 20, *["fault-stall"] * 3)
    async with serving(tmp_path, gateway) as service:
        batch_id = await service.submit(data)
        async with asyncio.timeout(PATIENCE):
            while (await service.look(batch_id))["request_counts"]["completed"] < 20:
                await asyncio.sleep(0.02)
    async with serving(tmp_path, gateway) as service:
        await service.http.post(f"/v1/batches/{batch_id}/cancel")
        await service.wait(batch_id)
        report = await service.report(batch_id)
    assert "Cancelled, 3 not sent" in report
    assert "20 of 23 lines succeeded" in report
    assert re.search(r" m 20 0 ", report)
    assert "sudden end" not in report
