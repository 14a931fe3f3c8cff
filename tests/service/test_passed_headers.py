"""Headers that a batch passes on: with its requests, and with no request if they cannot be read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_gateway.service.statuses import BatchEvent
from tests.service.test_processor import PATIENCE, a_service, requests

pytestmark = pytest.mark.anyio


@pytest.mark.specified("headers.pass_through")
async def test_headers_of_a_batch_go_on_to_the_gateway(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        passed = {"X-Team": "blue", "Authorization": "Bearer of-the-user"}
        async with service.processor(headers=passed) as processor:
            batch_id = await service.submit(requests(1), headers=b"sealed")
            processor.wake()
            await service.until(batch_id, "completed")
        [received] = service.gateway.journal.recent
        sent = received.headers
        assert (sent[b"x-team"], sent[b"authorization"]) == (b"blue", b"Bearer of-the-user")


@pytest.mark.specified("headers.keys")
async def test_a_batch_whose_headers_cannot_be_read_waits_for_the_keys(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        async with service.processor() as processor:
            ids = [await service.submit(requests(1), headers=b"sealed") for _ in range(2)]
            processor.wake()
            async with asyncio.timeout(PATIENCE):
                for batch_id in ids:
                    while "give the service its keys back" not in await service.notice(batch_id):
                        await asyncio.sleep(0.02)
            await service.tell(ids[0], BatchEvent.CANCEL)
            assert (await service.until(ids[0])).status == "cancelled"
        assert list(service.gateway.journal.recent) == []
        async with service.processor(headers={"X-Team": "blue"}):
            assert (await service.until(ids[1])).completed == 1
        [received] = service.gateway.journal.recent
        assert received.headers[b"x-team"] == b"blue"


@pytest.mark.specified("headers.own_key")
async def test_the_gateway_s_own_key_wins_over_one_that_is_passed_on(tmp_path: Path) -> None:
    async with a_service(tmp_path, api_key="own") as service:
        passed = {"authorization": "Bearer of-the-user"}
        async with service.processor(headers=passed) as processor:
            batch_id = await service.submit(requests(1), headers=b"sealed")
            processor.wake()
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed) == ("completed", 1)
