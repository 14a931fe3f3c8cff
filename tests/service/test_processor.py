"""The processor: batches go from their input to their result files, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.client.layers.concurrency.policy import FixedConcurrency
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.sending import ClientFor
from batch_gateway.engine.waits import TellOfOutage, Waits
from batch_gateway.errors import StorageFullError
from batch_gateway.service.batch_records import BatchRecord, add_batch, poll_batch, record_event
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import FileState, add_file, object_name
from batch_gateway.service.open_database import open_database
from batch_gateway.service.processor import Processor
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.storage.folder import LocalFolder
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from tests.engine.batch_files import request, text_of
from tests.service.records import a_batch, a_file

pytestmark = pytest.mark.anyio

ENDED = {"completed", "failed", "cancelled", "expired"}
# Far beyond what any of these takes, so that a fault ends the test.
PATIENCE = 60.0


class FullStore:
    """A store that takes no parts while it is full."""

    def __init__(self, inner: LocalFolder) -> None:
        self._inner = inner
        self.is_full = False

    async def put(self, name: str, data: bytes) -> None:
        if self.is_full:
            raise StorageFullError("there is no room for more")
        await self._inner.put(name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Service:
    """A database, a store, a simulated gateway and a client of it, and what a user does."""

    def __init__(self, database: Database, storage: LocalFolder, gateway: SimulatedGateway) -> None:
        self.database, self.storage, self.gateway = database, storage, gateway
        self.on_outage: TellOfOutage = lambda gateway, lasted: None
        config = HTTPInferenceClientConfig(
            gateway.url,
            api_key=gateway.config.api_key,
            concurrency=FixedConcurrency(4),
            circuit_breaker=patient_breaker(),
        )
        self.waits = Waits(Figures(), self._hear)
        self.client = HTTPInferenceClient(config, observers=[self.waits])
        self.now = 0.0

    def _hear(self, gateway: str, lasted: float | None) -> None:
        self.on_outage(gateway, lasted)

    def processor(
        self,
        *,
        storage: Any = None,
        headers: Mapping[str, str] | None = None,
        client_for: ClientFor | None = None,
        workers: int = 16,
        clock: Clock = SYSTEM_CLOCK,
    ) -> Processor:
        processor = Processor(
            self.database,
            storage or self.storage,
            client_for or (lambda _: self.client),
            config=ProcessorConfig(shutdown_timeout=0.5, workers=workers, poll_interval=0.1),
            open_headers=None if headers is None else lambda sealed: headers,
            alone=True,
            clock=clock,
        )
        self.on_outage = processor.gateway_is_down
        return processor

    async def submit(self, lines: bytes | Sequence[Mapping[str, Any]], **batch: Any) -> str:
        data = lines if isinstance(lines, bytes) else text_of(lines)
        file = a_file(bytes=len(data))
        record = a_batch(input_file_id=file.id, **batch)
        await self.storage.put(object_name(file.id), data)
        await self.database.write(partial(add_file, record=file, state=FileState.STORED))
        await self.database.write(partial(add_batch, record=record))
        return record.id

    async def look(self, batch_id: str, tenant: str = "t") -> BatchRecord:
        return await poll_batch(self.database, tenant, batch_id)

    async def notice(self, batch_id: str) -> str:
        return (await self.look(batch_id)).notice or ""

    async def progress(self, batch_id: str) -> None:
        """Return when some of it is done."""
        async with asyncio.timeout(PATIENCE):
            while (await self.look(batch_id)).completed == 0:
                await asyncio.sleep(0.02)

    async def until(self, batch_id: str, *statuses: str) -> BatchRecord:
        async with asyncio.timeout(PATIENCE):
            while (batch := await self.look(batch_id)).status not in (statuses or ENDED):
                await asyncio.sleep(0.02)
        return batch

    async def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        if file_id is None:
            return []
        data = await self.storage.read(object_name(file_id))
        return [json.loads(line) for line in data.splitlines()]

    async def tell(self, batch_id: str, event: BatchEvent) -> None:
        await self.database.write(partial(record_event, batch_id=batch_id, event=event, now=1.0))


@asynccontextmanager
async def a_service(folder: Path, **gateway: Any) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        database = await open_database(folder / "records.sqlite3")
        stack.push_async_callback(database.aclose)
        storage = LocalFolder(folder / "store")
        stack.push_async_callback(storage.aclose)
        simulator = SimulatedGateway(SimulatorConfig.instant(**gateway))
        await stack.enter_async_context(simulator)
        service = Service(database, storage, simulator)
        await stack.enter_async_context(service.client)
        stack.callback(service.waits.close)
        yield service


def requests(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [request(f"c{number}", **changes) for number in range(count)]


@pytest.mark.specified("results.counts", "results.usage")
async def test_a_batch_ends_with_a_result_for_each_line(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        batch = await _of_twenty_lines(service)
        assert await service.storage.list("batches/") == []
        assert batch.status == "completed"


async def _of_twenty_lines(service: Service) -> BatchRecord:
    async with service.processor() as processor:
        batch_id = await service.submit(requests(20))
        processor.wake()
        batch = await service.until(batch_id)
        assert (batch.total, batch.completed, batch.failed) == (20, 20, 0)
        assert batch.model == "m"
        assert batch.output_tokens > 0
        assert batch.error_file_id is None
        lines = await service.lines(batch.output_file_id)
        assert sorted(line["custom_id"] for line in lines) == sorted(f"c{n}" for n in range(20))
        assert batch.output_tokens == sum(
            line["response"]["body"]["usage"]["completion_tokens"] for line in lines
        )
        return batch


async def test_no_two_batches_use_the_same_ids_at_the_gateway(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        ids = [await service.submit(requests(3)) for _ in range(2)]
        processor.wake()
        files = [(await service.until(one)).output_file_id for one in ids]
        lines = [line for file in files for line in await service.lines(file)]
        assert len({line["id"] for line in lines}) == 6


class Classifying:
    """A client whose gateway knows another endpoint."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        self.asked.append(request.endpoint)
        return InferenceResponse(
            request_id=request.request_id, status_code=200, body=b'{"object":"list","data":[]}'
        )


async def test_what_is_no_endpoint_of_openai_is_sent_where_the_batch_asks_for_it(
    tmp_path: Path,
) -> None:
    client = Classifying()
    async with (
        a_service(tmp_path) as service,
        service.processor(client_for=lambda _: client) as processor,
    ):
        lines = [request(f"c{n}", url="/v1/classify", body={"model": "m"}) for n in range(3)]
        batch_id = await service.submit(lines, endpoint="/v1/classify")
        wrong = await service.submit(requests(1), endpoint="/v1/classify")
        processor.wake()
        batch = await service.until(batch_id)
        assert (batch.status, batch.completed) == ("completed", 3)
        assert client.asked == 3 * ["/v1/classify"]
        [problem] = json.loads((await service.until(wrong)).errors or "")
        assert problem["code"] == "url_mismatch"


@pytest.mark.specified("batches.failed")
@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (b"", "empty_file", None),
        (b"\n\n", "empty_file", None),
        (b"{\n", "invalid_file", None),
        (text_of([request("a"), request("a")]), "duplicate_custom_id", 2),
        (text_of([request("a")]) + b'{"custom_id": ', "invalid_json_line", 2),
        (text_of([request("a", url="/v1/embeddings")]), "url_mismatch", 1),
        (text_of([request("a", method=None)]), "missing_required_parameter", 1),
    ],
)
async def test_a_bad_input_fails_the_batch_and_says_where(
    tmp_path: Path, lines: bytes, code: str, line: int | None
) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit(lines)
        processor.wake()
        batch = await service.until(batch_id)
        assert batch.status == "failed"
        [problem] = json.loads(batch.errors or "")
        assert (problem["code"], problem["line"]) == (code, line)
        assert service.gateway.journal.received == 0


@pytest.mark.specified("batches.failed")
async def test_the_first_twenty_problems_are_told(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        batch_id = await service.submit([request(f"c{n}", url="/v1/embeddings") for n in range(30)])
        processor.wake()
        batch = await service.until(batch_id)
        assert [problem["line"] for problem in json.loads(batch.errors or "")] == [*range(1, 21)]


@pytest.mark.specified("results.failures")
async def test_failures_are_in_the_error_file(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service, service.processor() as processor:
        body = {"model": "fault-status-400", "messages": [{"role": "user", "content": "x"}]}
        batch_id = await service.submit([*requests(3), request("bad", body=body)])
        processor.wake()
        batch = await service.until(batch_id)
        assert batch.status == "completed"
        assert (batch.completed, batch.failed) == (3, 1)
        [line] = await service.lines(batch.error_file_id)
        assert (line["custom_id"], line["response"]["status_code"]) == ("bad", 400)


@pytest.mark.specified("results.cancelled", "results.counts")
async def test_cancelling_keeps_what_is_done_and_says_of_the_rest_that_it_was_not(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        async with service.processor() as processor:
            batch_id = await service.submit(requests(40))
            processor.wake()
            async with asyncio.timeout(PATIENCE):
                while (await service.look(batch_id)).completed == 0:
                    await asyncio.sleep(0.02)
            await service.tell(batch_id, BatchEvent.CANCEL)
            batch = await service.until(batch_id)
        assert batch.status == "cancelled"
        assert batch.completed + batch.failed == 40
        assert 0 < batch.completed < 40
        assert len(await service.lines(batch.output_file_id)) == batch.completed
        errors = await service.lines(batch.error_file_id)
        assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
        assert len(errors) == batch.failed


@pytest.mark.specified("stop.batches")
async def test_what_was_stopped_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        async with service.processor() as processor:
            batch_id = await service.submit(requests(40))
            processor.wake()
            async with asyncio.timeout(PATIENCE):
                while (await service.look(batch_id)).completed == 0:
                    await asyncio.sleep(0.02)
        before = await service.look(batch_id)
        assert before.status == "in_progress"
        assert 0 < before.completed < 40
        async with service.processor():
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 40, 0)
        sent = service.gateway.journal.requests
        assert all(entry.completed == 1 for entry in sent.values())


@pytest.mark.specified("results.expired", "results.counts")
async def test_a_batch_whose_window_is_over_keeps_what_is_done_and_expires(tmp_path: Path) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service, service.processor() as processor:
        batch_id = await service.submit(requests(400), due_at=time.time() + 1.0)
        processor.wake()
        batch = await service.until(batch_id)
        assert batch.status == "expired"
        assert batch.completed + batch.failed == 400
        assert batch.failed > 0
        errors = await service.lines(batch.error_file_id)
        assert {line["error"]["code"] for line in errors} == {"batch_expired"}
        assert len(errors) == batch.failed


@pytest.mark.specified("turns.urgency")
async def test_an_urgent_batch_behind_a_large_one_begins_at_once(tmp_path: Path) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service, service.processor() as processor:
        now = time.time()
        large = await service.submit(requests(1_000), due_at=now + 86_400)
        processor.wake()
        await service.progress(large)
        urgent = await service.submit(requests(20), due_at=now + 3_600)
        processor.wake()
        await service.until(urgent, "completed")
        assert (await service.look(large)).completed < 500
        await service.tell(large, BatchEvent.CANCEL)
        await service.until(large)


@pytest.mark.specified("turns.tenants")
async def test_tenants_share_a_gateway_evenly(tmp_path: Path) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service, service.processor() as processor:
        due = time.time() + 86_400
        one = [await service.submit(requests(300), due_at=due) for _ in range(3)]
        processor.wake()
        await service.progress(one[0])
        other = await service.submit(requests(100), tenant="other", due_at=due)
        processor.wake()
        before = sum([(await service.look(batch)).completed for batch in one])
        async with asyncio.timeout(PATIENCE):
            while (await service.look(other, "other")).status != "completed":
                await asyncio.sleep(0.02)
        meanwhile = sum([(await service.look(batch)).completed for batch in one]) - before
        # Three batches of a tenant together have the half, and not three quarters.
        assert 30 < meanwhile < 200
        for batch in one:
            await service.tell(batch, BatchEvent.CANCEL)
            await service.until(batch)


@pytest.mark.specified("batches.notice")
async def test_a_gateway_that_is_away_is_waited_for_and_told_of(tmp_path: Path) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service, service.processor() as processor:
        batch_id = await service.submit(requests(60))
        processor.wake()
        await service.progress(batch_id)
        await service.gateway.stop()
        async with asyncio.timeout(PATIENCE):
            while (notice := (await service.look(batch_id)).notice) is None:
                await asyncio.sleep(0.02)
        assert "is failing" in notice
        await service.gateway.start()
        batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 60, 0)
        assert batch.notice is None


@pytest.mark.specified("batches.notice")
async def test_a_full_disk_is_waited_for_and_told_of(tmp_path: Path) -> None:
    async with a_service(tmp_path) as service:
        full = FullStore(service.storage)
        async with service.processor(storage=full) as processor:
            batch_id = await service.submit(requests(30))
            full.is_full = True
            processor.wake()
            async with asyncio.timeout(PATIENCE):
                while "no room" not in await service.notice(batch_id):
                    await asyncio.sleep(0.02)
            full.is_full = False
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 30, 0)
        assert all(one.received == 1 for one in service.gateway.journal.requests.values())


@pytest.mark.parametrize(
    ("event", "status"), [(BatchEvent.CANCEL, "cancelled"), (BatchEvent.EXPIRE, "expired")]
)
async def test_a_batch_ends_though_others_take_every_place(
    tmp_path: Path, event: BatchEvent, status: str
) -> None:
    async with a_service(tmp_path) as service, service.processor(workers=1) as processor:
        body = {"model": "fault-stall", "messages": [{"role": "user", "content": "x"}]}
        first = await service.submit(requests(3, body=body), due_at=4e9)
        processor.wake()
        async with asyncio.timeout(PATIENCE):
            while not service.gateway.journal.received:
                await asyncio.sleep(0.02)
        second = await service.submit(requests(3), due_at=5e9)
        processor.wake()
        await service.until(second, "in_progress")
        await service.tell(second, event)
        processor.look()
        batch = await service.until(second)
        assert (batch.status, batch.failed) == (status, 3)
        assert (await service.look(first)).status == "in_progress"
