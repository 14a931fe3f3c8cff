"""What a batch leaves: its files and their names, and requests that went out as they were sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from batch_gateway.engine.plan import Plan
from batch_gateway.service.file_records import FileRecord, find_file
from batch_gateway.storage.folder import LocalFolder
from tests.engine.batch_files import CHAT, request
from tests.service.test_processor import Service, a_service, requests

pytestmark = pytest.mark.anyio

ALWAYS_400 = {"model": "fault-status-400", "messages": [{"role": "user", "content": "x"}]}


async def file_of(service: Service, file_id: str | None) -> FileRecord:
    find = partial(find_file, tenant="t", file_id=file_id or "", now=1.0)
    found = await service.database.read(find)
    assert found is not None
    return found


@pytest.mark.specified("results.files")
async def test_result_files_are_called_after_their_batch_and_are_no_input(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit([*requests(2), request("bad", body=ALWAYS_400)])
        processor.wake()
        batch = await service.until(batch_id)
        for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
            file = await file_of(service, file_id)
            assert file.filename == f"batch_{kind}_{batch_id}.jsonl"
            assert (file.purpose, file.status) == ("batch_output", "processed")


class UnevenStore:
    """A store that answers the later the earlier it is asked, and notes how many ask at once."""

    def __init__(self, inner: LocalFolder) -> None:
        self._inner = inner
        self.asking = self.most = 0
        self._turns = 30

    async def stream(self, name: str, *span: Any) -> AsyncGenerator[bytes, None]:
        if name.endswith(".output"):
            self.asking += 1
            self.most = max(self.most, self.asking)
            self._turns -= 1
            left = self._turns
            while left > 0:
                await asyncio.sleep(0)
                left -= 1
            self.asking -= 1
        async for piece in self._inner.stream(name, *span):
            yield piece

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_parts_that_are_read_together_are_written_in_their_order(tmp_path: Path) -> None:
    sizes = Plan.shards.__kwdefaults__
    assert sizes is not None
    async with a_service(tmp_path) as service:
        store = UnevenStore(service.storage)
        with patch.dict(sizes, max_lines=2):
            async with service.processor(storage=store) as processor:
                batch_id = await service.submit(requests(40))
                processor.wake()
                batch = await service.until(batch_id)
        assert (batch.status, batch.completed) == ("completed", 40)
        assert 1 < store.most <= 4
        parts = [line["custom_id"] for line in await service.lines(batch.output_file_id)]
        shards = [sorted(parts[first : first + 2]) for first in range(0, 40, 2)]
        asked = [line["custom_id"] for line in requests(40)]
        assert shards == [sorted(asked[first : first + 2]) for first in range(0, 40, 2)]


@pytest.mark.specified("results.files", "batches.all_failed")
async def test_a_batch_whose_lines_all_failed_is_completed_and_has_no_output(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit([request(f"c{n}", body=ALWAYS_400) for n in range(3)])
        processor.wake()
        batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 0, 3)
        assert batch.output_file_id is None
        assert len(await service.lines(batch.error_file_id)) == 3


@pytest.mark.specified("requests.unchanged")
async def test_what_a_line_asks_for_reaches_the_gateway_unchanged(tmp_path: Path) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    content = [{"type": "text", "text": "\u00fc\U0001f600"}, picture]
    body = (
        '{"seed": 12345678901234567890, "zeta": 1.10, "model": "m", "alpha": {"b": 1, "a": [2]},'
        f' "messages": [{{"role": "user", "content": {json.dumps(content)}}}]}}'
    )
    line = f'{{"custom_id": "c", "method": "POST", "url": "{CHAT}", "body": {body}}}\n'
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit(line.encode())
        processor.wake()
        assert (await service.until(batch_id)).completed == 1
        [received] = service.gateway.journal.recent
    sent = json.loads(received.body, parse_float=str, object_pairs_hook=list)
    assert sent == json.loads(body, parse_float=str, object_pairs_hook=list)
