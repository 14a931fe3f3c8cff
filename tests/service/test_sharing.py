"""Batches that share gateways: by urgency, evenly by tenant, and models beside each other.

All of the processor, the engine and the client runs, in simulated time; only what is sent goes to
a gateway that is told how long its answers take.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from batch_gateway import (
    FixedConcurrency,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
)
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.engine.plan import Plan
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.service.batch_records import BatchRecord, add_batch, poll_batch
from batch_gateway.service.database import Database
from batch_gateway.service.file_records import FileState, add_file, object_name
from batch_gateway.service.open_database import open_database
from batch_gateway.service.processor import Processor
from batch_gateway.storage.folder import LocalFolder
from batch_gateway.wire.headers import Headers
from tests.client.posting_only import PostingOnly
from tests.engine.batch_files import request, text_of
from tests.service.records import a_batch, a_file
from tests.virtual_time import LoopClock, run_in_virtual_time

HOUR = 3_600.0
CLOCK = LoopClock()
NEVER = 1e9
ANSWER = json.dumps(
    {
        "choices": [{"message": {"role": "assistant", "content": "x"}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1},
    }
).encode()


class Gateway(PostingOnly):
    """Answers after some seconds, which may depend on the model.

    Attributes:
        sent, answered: of each batch and model the times.
        is_down: it refuses connections.
    """

    def __init__(self, seconds: Mapping[str, tuple[float, float]], is_down: bool = False) -> None:
        self._seconds, self.is_down = seconds, is_down
        self._random = random.Random(1)
        self.sent: dict[str, list[float]] = {}
        self.answered: dict[str, list[float]] = {}

    async def post(
        self, path: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: float
    ) -> HTTPResponse:
        if self.is_down:
            raise GatewayConnectionError("connection refused")
        asked = json.loads(body)
        if asked["model"] == "gone":
            return HTTPResponse(503, Headers(), b'{"error":{"message":"no endpoints"}}')
        names = asked["messages"][0]["content"], asked["model"]
        for name in names:
            self.sent.setdefault(name, []).append(CLOCK.monotonic())
        await asyncio.sleep(self._random.uniform(*self._seconds[asked["model"]]))
        for name in names:
            self.answered.setdefault(name, []).append(CLOCK.monotonic())
        return HTTPResponse(200, Headers(), ANSWER)

    def answered_between(self, begin: float, end: float) -> Counter[str]:
        return Counter(
            {
                name: sum(begin <= time < end for time in times)
                for name, times in self.answered.items()
            }
        )

    def client(self, places: int) -> HTTPInferenceClient:
        breaker = patient_breaker()
        assert breaker is not None
        with patch("batch_gateway.client.client.build_exchanger", lambda _: self):
            return HTTPInferenceClient(
                HTTPInferenceClientConfig(
                    "http://gateway",
                    timeout=NEVER,
                    concurrency=FixedConcurrency(places),
                    circuit_breaker=replace(breaker, after_success=False),
                ),
                clock=CLOCK,
            )


class Service:
    def __init__(self, database: Database, storage: LocalFolder, processor: Processor) -> None:
        self.database, self.storage, self.processor = database, storage, processor

    async def submit(
        self, name: str, lines: Mapping[str, int], *, tenant: str = "t", window: float = 24 * HOUR
    ) -> str:
        """A batch with so many lines of each model, one model after the other."""
        messages = [{"role": "user", "content": name}]
        models = [model for model, count in lines.items() for _ in range(count)]
        data = text_of(
            request(f"c{number}", body={"model": model, "messages": messages})
            for number, model in enumerate(models)
        )
        file = a_file(bytes=len(data), tenant=tenant)
        due = CLOCK.wall_time() + window
        batch = a_batch(input_file_id=file.id, tenant=tenant, due_at=due)
        await self.storage.put(object_name(file.id), data)
        await self.database.write(partial(add_file, record=file, state=FileState.STORED))
        await self.database.write(partial(add_batch, record=batch))
        self.processor.wake()
        return batch.id

    async def end_of(self, batch_id: str, tenant: str = "t") -> BatchRecord:
        while (batch := await poll_batch(self.database, tenant, batch_id)).status in (
            "validating",
            "in_progress",
            "finalizing",
        ):
            await asyncio.sleep(1.0)
        return batch


@asynccontextmanager
async def a_service(
    folder: Path, clients: Mapping[str, HTTPInferenceClient]
) -> AsyncIterator[Service]:
    async with AsyncExitStack() as stack:
        database = await open_database(folder / "records.sqlite3")
        stack.push_async_callback(database.aclose)
        storage = LocalFolder(folder / "store")
        stack.push_async_callback(storage.aclose)
        for client in set(clients.values()):
            await stack.enter_async_context(client)
        processor = Processor(database, storage, clients.get, alone=True, clock=CLOCK)
        stack.push_async_callback(processor.stop)
        await processor.start()
        # What is under way is cut off at the end.
        yield Service(database, storage, processor)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(300):
        while not condition():
            await asyncio.sleep(0.1)


@contextmanager
def small_parts(*, max_lines: int, enough: int) -> Generator[None]:
    """Batches are divided as if they were large, and few lines at hand are enough."""
    sizes = Plan.shards.__kwdefaults__
    assert sizes is not None
    with (
        patch.dict(sizes, max_lines=max_lines),
        patch("batch_gateway.service.scheduling.ENOUGH_LINES", enough),
    ):
        yield


def in_simulated_time(test: Callable[[Path], Coroutine[Any, Any, None]]) -> Callable[[Path], None]:
    def run(tmp_path: Path) -> None:
        run_in_virtual_time(test(tmp_path))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@pytest.mark.specified("turns.urgency")
@in_simulated_time
async def test_a_batch_due_in_an_hour_is_done_in_time_behind_one_that_takes_longer(
    tmp_path: Path,
) -> None:
    gateway = Gateway({"m": (5.0, 15.0)})
    async with a_service(tmp_path, {"m": gateway.client(100)}) as service:
        # At ten lines a second it takes more than an hour.
        await service.submit("day", {"m": 40_000})
        await until(lambda: len(gateway.answered.get("day", ())) > 100)
        submitted = CLOCK.monotonic()
        urgent = await service.submit("hour", {"m": 1_000}, window=HOUR)
        batch = await service.end_of(urgent)
        ended = CLOCK.monotonic()
        assert (batch.status, batch.completed) == ("completed", 1_000)
        assert gateway.sent["hour"][0] - submitted < 0.5
        # Of sixteen places it has fifteen, and the large one is not forgotten.
        assert ended - submitted < 1_000 / 10 * 16 / 15 + 2 * 15
        meanwhile = gateway.answered_between(submitted + 15, gateway.sent["hour"][-1])
        assert meanwhile["day"] > meanwhile["hour"] / 16


@pytest.mark.specified("turns.tenants")
@in_simulated_time
async def test_ten_tenants_have_even_shares_however_many_and_large_their_batches_are(
    tmp_path: Path,
) -> None:
    gateway = Gateway({"m": (0.1, 0.3)})
    async with a_service(tmp_path, {"m": gateway.client(40)}) as service:
        for tenant in range(10):
            for _ in range(1 + tenant % 4):
                await service.submit(f"of {tenant}", {"m": 200 + 50 * tenant}, tenant=f"{tenant}")
        names = {f"of {tenant}" for tenant in range(10)}
        await until(lambda: names <= gateway.answered.keys())
        began = CLOCK.monotonic()
        await asyncio.sleep(5.0)
        shares = gateway.answered_between(began, CLOCK.monotonic())
        del shares["m"]
        assert len(shares) == 10
        assert max(shares.values()) < 1.1 * min(shares.values())
        assert shares.total() > 0.95 * 5.0 * 200


@pytest.mark.specified("turns.models")
@in_simulated_time
async def test_models_behind_one_gateway_begin_together_and_leave_each_other_their_places(
    tmp_path: Path,
) -> None:
    models = ["first", "second", "third"]
    gateway = Gateway(dict.fromkeys(models, (1.0, 1.0)))
    async with a_service(tmp_path, dict.fromkeys(models, gateway.client(30))) as service:
        await service.submit("batch", {"first": 300, "second": 60, "third": 60})
        await until(lambda: len(gateway.answered.get("batch", ())) == 420)
        assert all(gateway.sent[model][0] < 1 for model in models)
        assert gateway.answered["third"][-1] < 9
        assert gateway.answered["batch"][-1] < 420 / 30 + 3


@pytest.mark.specified("turns.models")
@in_simulated_time
async def test_models_run_beside_one_whose_answers_never_come(tmp_path: Path) -> None:
    gateway = Gateway({"hangs": (NEVER, NEVER), "slow": (10.0, 10.0), "quick": (1.0, 1.0)})
    client = gateway.client(30)
    async with a_service(tmp_path, dict.fromkeys(["hangs", "slow", "quick"], client)) as service:
        await service.submit("batch", {"hangs": 500, "slow": 100, "quick": 500})
        await until(lambda: len(gateway.answered.get("batch", ())) == 600)
        # A third of what is under way, and of what is ready to be, hangs.
        assert gateway.answered["batch"][-1] < (100 * 10 + 500 * 1) / 17 + 10


@pytest.mark.specified("turns.models")
@in_simulated_time
async def test_models_run_beside_one_that_their_gateway_has_no_servers_for(tmp_path: Path) -> None:
    gateway = Gateway({"b": (1.0, 1.0), "c": (1.0, 1.0)})
    client = gateway.client(30)
    async with a_service(tmp_path, dict.fromkeys(["gone", "b", "c"], client)) as service:
        await service.submit("batch", {"gone": 300, "b": 300, "c": 300})
        await until(lambda: len(gateway.answered.get("batch", ())) == 600)
        assert gateway.answered["batch"][-1] < 600 / 30 + 10


@pytest.mark.specified("turns.models")
@in_simulated_time
async def test_models_run_beside_one_whose_own_gateway_is_down(tmp_path: Path) -> None:
    down, up = Gateway({"a": (1.0, 1.0)}, is_down=True), Gateway({"b": (1.0, 1.0)})
    async with a_service(tmp_path, {"a": down.client(10), "b": up.client(10)}) as service:
        batch_id = await service.submit("batch", {"a": 100, "b": 100})
        await until(lambda: len(up.answered.get("b", ())) == 100)
        assert up.answered["b"][-1] < 12
        down.is_down = False
        batch = await service.end_of(batch_id)
        assert (batch.status, batch.completed) == ("completed", 200)


@in_simulated_time
async def test_the_parts_of_a_batch_follow_each_other_and_leave_no_place_empty(
    tmp_path: Path,
) -> None:
    gateway = Gateway({"m": (1.0, 1.0)})
    with small_parts(max_lines=100, enough=30):
        async with a_service(tmp_path, {"m": gateway.client(10)}) as service:
            batch_id = await service.submit("batch", {"m": 400})
            at_once: list[int] = []
            while len(gateway.answered.get("batch", ())) < 400:
                at_once.append(service.processor.shards)
                await asyncio.sleep(0.1)
            batch = await service.end_of(batch_id)
    assert (batch.status, batch.completed) == ("completed", 400)
    assert max(at_once) == 2
    assert at_once.count(2) < len(at_once) / 2
    assert gateway.answered["batch"][-1] < 400 / 10 + 2


@in_simulated_time
async def test_the_models_of_a_batch_run_beside_each_other_in_whatever_parts_they_are(
    tmp_path: Path,
) -> None:
    first, second = Gateway({"a": (1.0, 1.0)}), Gateway({"b": (1.0, 1.0)})
    with small_parts(max_lines=100, enough=30):
        async with a_service(tmp_path, {"a": first.client(10), "b": second.client(10)}) as service:
            batch_id = await service.submit("batch", {"a": 200, "b": 200})
            batch = await service.end_of(batch_id)
    assert (batch.status, batch.completed) == ("completed", 400)
    assert max(first.answered["a"][-1], second.answered["b"][-1]) < 200 / 10 + 2


@in_simulated_time
async def test_any_number_of_models_share_the_places(tmp_path: Path) -> None:
    models = [f"model-{number}" for number in range(100)]
    gateway = Gateway(dict.fromkeys(models, (1.0, 1.0)))
    async with a_service(tmp_path, dict.fromkeys(models, gateway.client(4))) as service:
        batch_id = await service.submit("batch", dict.fromkeys(models, 2))
        batch = await service.end_of(batch_id)
        assert (batch.status, batch.completed) == ("completed", 200)
        assert gateway.answered["batch"][-1] < 200 / 4 + 10
