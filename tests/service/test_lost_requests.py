"""Batches whose input, plan or results are gone or damaged, and those that a fault keeps from their
end: each comes to an end that says so, and what it counts is what is in its files."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.errors import StorageFullError, StorageUnavailableError
from batch_gateway.service.batch_records import BatchRecord
from batch_gateway.service.file_records import object_name
from batch_gateway.service.parts import plan_name
from batch_gateway.service.statuses import BatchEvent
from batch_gateway.storage.folder import LocalFolder
from tests.service.quick_clock import QuickClock
from tests.service.test_processor import PATIENCE, Service, a_service, requests

pytestmark = pytest.mark.anyio


class FaultyStore:
    """A store of which some methods fail."""

    def __init__(self, inner: LocalFolder, **faults: Callable[..., object]) -> None:
        self._inner, self.faults = inner, faults

    def __getattr__(self, name: str) -> Any:
        return self.faults.get(name) or getattr(self._inner, name)


async def _half_done(service: Service, lines: int = 40) -> BatchRecord:
    """A batch that a processor began and put down."""
    async with service.processor() as processor:
        batch_id = await service.submit(requests(lines))
        processor.wake()
        await service.progress(batch_id)
    batch = await service.look(batch_id)
    assert 0 < batch.completed < lines
    return batch


async def _check_counts(service: Service, batch: BatchRecord) -> list[dict[str, Any]]:
    """The lines of both files, which are what the batch counts, tokens included."""
    output, errors = [await service.lines(f) for f in (batch.output_file_id, batch.error_file_id)]
    assert (len(output), len(errors)) == (batch.completed, batch.failed)
    assert max(Counter(line["custom_id"] for line in output + errors).values(), default=1) == 1
    usages = [line["response"]["body"]["usage"] for line in output]
    assert batch.output_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert batch.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
    return errors


def _parts(service_folder: Path) -> list[Path]:
    return sorted((service_folder / "store" / "objects" / "batches").rglob("*.output"))


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_a_line(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "cut in a line": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "a line less": _cut_a_line,
    "a bit flipped": _flip,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no text": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
    "of something else": lambda path: path.write_bytes(b'{"a":1}\n'),
    "longer": lambda path: path.write_bytes(path.read_bytes() * 2),
    "unreadable": _make_unreadable,
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_lines_whose_results_are_lost_are_sent_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        before = await _half_done(service)
        [*_, path] = _parts(tmp_path)
        lost = len(path.read_bytes().splitlines())
        DAMAGES[damage](path)
        async with service.processor():
            batch = await service.until(before.id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 40, 0)
        await _check_counts(service, batch)
        assert f"{path.name} is damaged or gone" in caplog.text
        sent = Counter(one.completed for one in service.gateway.journal.requests.values())
        assert sent == Counter({2: lost, 1: 40 - lost})


async def test_a_store_that_is_away_while_the_files_are_written_has_lost_no_results(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path, latency_scale=0.1) as service:
        asked = list[str]()

        async def stream(name: str) -> AsyncGenerator[bytes, None]:
            asked.append(name)
            if len(asked) < 4:
                raise StorageUnavailableError(f"{name}: the store does not answer")
            async for piece in service.storage.stream(name):
                yield piece

        store = FaultyStore(service.storage, stream=stream)
        async with service.processor(storage=store, clock=QuickClock()) as processor:
            batch_id = await service.submit(requests(20))
            processor.wake()
            batch = await service.until(batch_id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 20, 0)
        await _check_counts(service, batch)
        assert len(asked) > 4
        assert {one.completed for one in service.gateway.journal.requests.values()} == {1}


@pytest.mark.parametrize("damage", ["gone", "a bit flipped", "unreadable"])
@pytest.mark.parametrize(
    ("event", "status"), [(None, "completed"), (BatchEvent.CANCEL, "cancelled")]
)
async def test_results_that_are_lost_before_the_files_are_written_are_made_again(
    tmp_path: Path, damage: str, event: BatchEvent | None, status: str
) -> None:
    async with a_service(tmp_path, latency_scale=0.1) as service:
        is_full = asyncio.Event()

        def upload(name: str) -> object:
            is_full.set()
            raise StorageFullError("no room")

        store = FaultyStore(service.storage, upload=upload)
        async with service.processor(storage=store, clock=QuickClock()) as processor:
            batch_id = await service.submit(requests(20))
            processor.wake()
            await service.progress(batch_id)
            if event is not None:
                await service.tell(batch_id, event)
            await is_full.wait()
            DAMAGES[damage](_parts(tmp_path)[0])
            store.faults.clear()
            batch = await service.until(batch_id)
        assert batch.status == status
        assert batch.completed + batch.failed == 20
        assert (batch.failed > 0) is (event is not None)
        await _check_counts(service, batch)


@pytest.mark.parametrize("lost", ["plan", "changed plan"])
async def test_a_plan_that_is_lost_is_made_again(tmp_path: Path, lost: str) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        before = await _half_done(service)
        await _lose(service, before, lost)
        async with service.processor():
            batch = await service.until(before.id)
        assert (batch.status, batch.completed, batch.failed) == ("completed", 40, 0)
        assert all(one.completed == 1 for one in service.gateway.journal.requests.values())


async def _lose(service: Service, batch: BatchRecord, what: str) -> None:
    for name in what.split(" and "):
        stored = plan_name(batch.id, 0) if "plan" in name else object_name(batch.input_file_id)
        if "changed" in name:
            data = await service.storage.read(stored)
            await service.storage.put(stored, b"x" * len(data) if "plan" in name else data[:-1])
        else:
            await service.storage.delete(stored)


LOST_INPUTS = ["input", "changed input", "input and plan", "changed input and plan"]


@pytest.mark.parametrize("lost", LOST_INPUTS)
@pytest.mark.parametrize(
    ("event", "status"), [(BatchEvent.CANCEL, "cancelled"), (BatchEvent.EXPIRE, "expired")]
)
async def test_a_batch_whose_requests_are_lost_ends_with_the_results_that_it_has(
    tmp_path: Path, lost: str, event: BatchEvent, status: str
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        before = await _half_done(service)
        await _lose(service, before, lost)
        async with service.processor() as processor:
            async with asyncio.timeout(PATIENCE):
                while (notice := (await service.look(before.id)).notice) is None:
                    await asyncio.sleep(0.02)
            assert str(tmp_path) not in notice
            await service.tell(before.id, event)
            processor.look()
            batch = await service.until(before.id)
        assert (batch.status, batch.completed, batch.failed) == (status, before.completed, 0)
        await _check_counts(service, batch)


@pytest.mark.parametrize("lost", LOST_INPUTS)
async def test_a_batch_whose_requests_stay_lost_fails_and_says_so(
    tmp_path: Path, lost: str
) -> None:
    async with a_service(tmp_path, latency_scale=0.2) as service:
        before = await _half_done(service)
        await _lose(service, before, lost)
        received = service.gateway.journal.received
        async with service.processor(clock=QuickClock()):
            batch = await service.until(before.id)
        assert (batch.status, batch.completed, batch.failed) == ("failed", before.completed, 0)
        [problem] = json.loads(batch.errors or "")
        assert problem["code"] == "invalid_file"
        assert "input file" in problem["message"]
        assert str(tmp_path) not in problem["message"]
        await _check_counts(service, batch)
        assert service.gateway.journal.received == received


async def test_an_input_that_is_lost_before_it_was_looked_at_fails_its_batch(
    tmp_path: Path,
) -> None:
    async with a_service(tmp_path) as service:
        batch_id = await service.submit(requests(3))
        await service.storage.delete(object_name((await service.look(batch_id)).input_file_id))
        async with service.processor(clock=QuickClock()):
            batch = await service.until(batch_id)
        assert batch.status == "failed"
        assert "the input file is not there any more" in (batch.errors or "")


async def test_a_fault_of_our_own_fails_its_batch_after_a_few_tries_and_no_other(
    tmp_path: Path,
) -> None:
    tries = 0

    def client_for(model: str) -> Any:
        nonlocal tries
        if model == "faulty":
            tries += 1
            raise KeyError(model)
        return service.client

    async with a_service(tmp_path) as service:
        async with service.processor(client_for=client_for, clock=QuickClock()) as processor:
            body = {"model": "faulty", "messages": [{"role": "user", "content": "x"}]}
            faulty = await service.submit(requests(5, body=body))
            other = await service.submit(requests(5))
            processor.wake()
            batch = await service.until(faulty)
            good = await service.until(other)
        assert (batch.status, good.status, good.completed) == ("failed", "completed", 5)
        [problem] = json.loads(batch.errors or "")
        assert problem["code"] == "internal_error"
        assert "KeyError" in problem["message"]
        assert tries < 20
        errors = await _check_counts(service, batch)
        assert {line["error"]["code"] for line in errors} <= {"batch_failed"}


@pytest.mark.parametrize("method", ["open_local", "upload"])
async def test_a_fault_before_or_after_the_requests_fails_the_batch_without_files(
    tmp_path: Path, method: str
) -> None:
    def fail(name: str, *rest: object) -> object:
        raise RuntimeError(name)

    async with a_service(tmp_path) as service:
        store = FaultyStore(service.storage, **{method: fail})
        async with service.processor(storage=store, clock=QuickClock()) as processor:
            batch_id = await service.submit(requests(5))
            processor.wake()
            batch = await service.until(batch_id)
        assert batch.status == "failed"
        assert (batch.completed, batch.failed, batch.output_file_id) == (0, 0, None)
        assert "RuntimeError" in (batch.errors or "")
