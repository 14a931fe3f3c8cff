"""What `/ready` says while the store of files is away: it asks seldom, and never waits for long."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest

from batch_gateway.errors import NotStoredError, StorageUnavailableError
from batch_gateway.server import readiness, serving
from batch_gateway.server.readiness import Readiness, Ready
from batch_gateway.service.open_database import open_database
from tests.server.running import Api

pytestmark = pytest.mark.anyio

OK = Ready(True, "ok")


class Store:
    """One of which only the size of an object is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def size(self, name: str) -> int:
        self.asked += 1
        await self.answers.wait()
        if self.error is not None:
            raise self.error
        return 1


class ManualClock:
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def wall_time(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


class World:
    """A process with an API or without, and the store that it looks at."""

    def __init__(self, database: Any, *, has_api: bool) -> None:
        self.store, self.clock = Store(), ManualClock()
        storage: Any = self.store
        self.ask = Readiness(database, storage, has_api=has_api, clock=self.clock)

    async def later(self) -> Ready:
        self.clock.seconds += 11
        return await self.ask()


@pytest.fixture
async def database(tmp_path: Path) -> Any:
    database = await open_database(tmp_path / "records.sqlite3")
    yield database
    await database.aclose()


async def test_many_who_ask_are_one_request_in_ten_seconds(database: Any) -> None:
    world = World(database, has_api=True)
    assert set(await asyncio.gather(*(world.ask() for _ in range(20)))) == {OK}
    world.clock.seconds = 9
    assert await world.ask() == OK
    assert world.store.asked == 1
    world.clock.seconds = 10
    assert await world.ask() == OK
    assert world.store.asked == 2


async def test_an_api_stays_in_service_and_says_it_and_a_worker_is_not_ready(database: Any) -> None:
    for has_api, said in ((True, "ok, but"), (False, "not ready:")):
        world = World(database, has_api=has_api)
        assert await world.ask() == OK
        world.store.error = StorageUnavailableError("identity: nobody listens there")
        words = f"{said} the store of files cannot be used: nobody listens there"
        assert await world.later() == Ready(has_api, words)
        world.store.error = None
        assert await world.later() == OK


async def test_a_store_that_never_answers_is_waited_for_once_and_not_by_everybody(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_WAIT", 0.01)
    world = World(database, has_api=False)
    assert await world.ask() == OK
    world.store.answers.clear()
    # Nobody knows yet.
    assert await world.later() == OK
    for _ in range(3):
        said = await world.later()
        assert said == Ready(
            False, "not ready: the store of files cannot be used: it does not answer"
        )
    assert world.store.asked == 2
    world.store.answers.set()
    await asyncio.sleep(0)
    assert await world.later() == OK


async def test_a_folder_that_is_not_mounted_any_more_is_told_from_one_that_is_new(
    database: Any,
) -> None:
    world = World(database, has_api=False)
    world.store.error = NotStoredError("identity is not stored")
    assert await world.ask() == OK
    world.store.error = None
    assert await world.later() == OK
    world.store.error = NotStoredError("identity is not stored")
    assert (await world.later()).words.endswith("its files are gone")


@pytest.mark.specified("observability")
async def test_load_balancers_hear_it(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(name: str) -> int:
        raise StorageUnavailableError(f"{name}: nobody listens there")

    monkeypatch.setattr(api.state.storage, "size", fail)
    async with httpx2.AsyncClient(base_url=api.observability_url) as other:
        answer = await other.get("/ready")
        assert answer.status_code == 200
        assert answer.text == "ok, but the store of files cannot be used: nobody listens there"
        assert (await api.http.get("/v1/batches")).status_code == 200


@pytest.mark.specified("observability")
async def test_figures_are_there_while_the_database_says_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(action: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(serving, "_BACKLOG_SECONDS", 0.01)
    monkeypatch.setattr(api.state.database, "read", never)
    async with httpx2.AsyncClient(base_url=api.observability_url) as other:
        answer = await other.get("/metrics")
        assert answer.status_code == 200
        assert "http_requests" in answer.text
