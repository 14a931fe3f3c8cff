"""The first look at inputs: nobody waits for the look at what is less urgent."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.engine.source import Source
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.service.validation import look_at
from tests.service.test_processor import PATIENCE, a_service, requests

pytestmark = pytest.mark.anyio


@pytest.mark.specified("turns.urgency")
async def test_urgent_batches_and_ends_do_not_wait_for_long_looks_at_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_end, large, looking = threading.Event(), list[str](), list[str]()

    def slowly(source: Source, batch_id: str, endpoint: str) -> Any:
        looking.append(batch_id)
        assert batch_id not in large or may_end.wait(PATIENCE)
        return look_at(source, batch_id, endpoint)

    monkeypatch.setattr("batch_gateway.service.job_work.look_at", slowly)
    async with a_service(tmp_path) as service:
        now = time.time()
        # Before anybody looks: which are to take long is known by then.
        large += [await service.submit(requests(3), due_at=now + 86_400) for _ in range(6)]
        async with service.processor() as processor:
            try:
                async with asyncio.timeout(PATIENCE):
                    while len(looking) < 4:
                        await asyncio.sleep(0.02)
                urgent = await service.submit(requests(3), due_at=now + 3_600)
                processor.wake()
                await service.until(urgent, "completed")
                waits = next(batch for batch in large if batch not in looking)
                await service.tell(waits, BatchEvent.CANCEL)
                processor.look()
                await service.until(waits, "cancelled")
                # No more at a time than before of those that are not urgent.
                assert len(looking) == 5
            finally:
                may_end.set()
