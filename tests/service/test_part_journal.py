"""The journal of a shard: what is registered counts, whoever wrote what and whenever it died."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.source import BytesSource
from batch_gateway.errors import (
    FencedError,
    JournalError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.service.part_journal import PartJournal
from batch_gateway.service.parts import Part, Tally
from batch_gateway.storage.folder import LocalFolder
from batch_gateway.storage.protocol import StoredObject
from batch_gateway.wire.lines import error_line, line_id, success_line
from batch_gateway.wire.usage import Usage
from tests.engine.batch_files import FILES, request, text_of

pytestmark = pytest.mark.anyio

PLACE = "batches/b/0"


class Registered:
    """A registry whose epoch anybody may move on."""

    def __init__(self) -> None:
        self.epoch = 1
        self.parts: dict[str, Part] = {}

    def of(self, epoch: int) -> _RegistryOfEpoch:
        return _RegistryOfEpoch(self, epoch)


class _RegistryOfEpoch:
    def __init__(self, shared: Registered, epoch: int) -> None:
        self.shared, self.epoch = shared, epoch

    async def registered(self) -> Mapping[str, Part]:
        return dict(self.shared.parts)

    async def register(self, parts: Sequence[Part]) -> None:
        if self.shared.epoch != self.epoch:
            raise FencedError("taken over")
        self.shared.parts |= {part.name: part for part in parts}

    async def drop(self, parts: Sequence[Part]) -> None:
        for part in parts:
            del self.shared.parts[part.name]

    async def replace(self, parts: Sequence[Part], whole: Part) -> None:
        await self.register([whole])
        for part in parts:
            del self.shared.parts[part.name]


class World:
    """A store, a registry, and journals of one shard."""

    def __init__(self, storage: LocalFolder, lines: int = 100) -> None:
        self.storage = storage
        self.registry = Registered()
        text = text_of(request(f"c{n}") for n in range(lines))
        self.plan: Plan = make_plan(BytesSource(text))
        self.usage = Usage()
        self.troubles: list[str | None] = []

    def result(self, index: int, ok: bool = True) -> bytes:
        result_id = line_id(self.plan.fingerprint, index)
        if not ok:
            return error_line(result_id, f"c{index}", "SERVER_ERROR", "no")
        body = json.dumps({"usage": {"prompt_tokens": 1, "completion_tokens": 2}}).encode()
        return success_line(result_id, f"c{index}", 200, "r", body)

    async def journal(
        self,
        epoch: int = 1,
        *,
        has_models: bool = False,
        storage: Any = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> PartJournal:
        self.registry.epoch = epoch
        opened = PartJournal(
            self.plan,
            storage or self.storage,
            PLACE,
            epoch,
            self.registry.of(epoch),
            usage=lambda: self.usage,
            has_models=has_models,
            on_trouble=self.troubles.append,
            clock=clock,
        )
        return await opened.open()

    async def append(self, journal: PartJournal, index: int, ok: bool = True) -> None:
        if ok:
            self.usage += Usage(1, 2)
        await journal.append(index, self.result(index, ok), ok)

    async def lines(self) -> list[str]:
        found = [await self.storage.read(name) for name in sorted(self.registry.parts)]
        ids = [json.loads(line)["custom_id"] for line in b"".join(found).splitlines()]
        return sorted(ids)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    storage = LocalFolder(tmp_path)
    yield World(storage)
    await storage.aclose()


async def test_results_are_parts_by_what_they_are_and_counted(world: World) -> None:
    journal = await world.journal()
    for index in range(3):
        await world.append(journal, index)
    await world.append(journal, 3, ok=False)
    await journal.finish()
    assert journal.tally == Tally(3, 1, Usage(3, 6))
    assert sum((part.tally for part in world.registry.parts.values()), Tally()) == journal.tally
    assert sorted(name[-6:] for name in world.registry.parts) == ["errors", "output"]
    assert await world.lines() == ["c0", "c1", "c2", "c3"]
    assert (journal.succeeded, journal.failed, journal.without_result) == (3, 1, 96)
    await journal.aclose()


async def test_where_there_are_several_models_lines_are_counted_by_model_too(
    world: World,
) -> None:
    journals: list[PartJournal] = []
    for epoch in (1, 2):
        world.usage = Usage()
        journal = await world.journal(epoch, has_models=True)
        for index in range(epoch * 10, epoch * 10 + 3):
            await world.append(journal, index, ok=index % 10 > 0)
        await journal.flush()
        assert journal.tally == Tally(
            2 * epoch, epoch, Usage(2 * epoch, 4 * epoch), {"m": 3 * epoch}
        )
        journals.append(journal)
        if epoch == 1:
            world.registry.parts.clear()
    # The second has adopted what the first could not register.
    whole = sum((part.tally for part in world.registry.parts.values()), Tally())
    assert whole.by_model == {"m": 6}
    for journal in journals:
        await journal.aclose()


async def test_whoever_goes_on_knows_what_is_done(world: World) -> None:
    journal = await world.journal()
    await world.append(journal, 5)
    await world.append(journal, 7, ok=False)
    await journal.aclose()
    after = await world.journal(epoch=2)
    assert [index for index in range(100) if after.is_done(index)] == [5, 7]
    assert not after.was_untouched
    await after.aclose()


async def test_what_was_stored_and_not_registered_is_adopted(world: World) -> None:
    dead = await world.journal()
    for index in (1, 2):
        await world.append(dead, index)
    await dead.flush()
    world.registry.parts.clear()
    heir = await world.journal(epoch=2)
    assert heir.is_done(1)
    assert heir.is_done(2)
    assert heir.tally == Tally(2, 0, Usage(2, 4))
    assert await world.lines() == ["c1", "c2"]
    await heir.aclose()
    await dead.aclose()


async def test_what_a_worker_writes_that_was_taken_over_is_never_looked_at(world: World) -> None:
    paused = await world.journal()
    await world.append(paused, 1)
    heir = await world.journal(epoch=2)
    await world.append(heir, 1)
    await heir.flush()
    with pytest.raises(JournalError):
        await paused.flush()
    assert paused.broken.is_set()
    with pytest.raises(JournalError):
        await world.append(paused, 2)
    await heir.aclose()
    await paused.aclose()
    # Not by a third one either, to whom it lies there as if it were to be adopted.
    third = await world.journal(epoch=3)
    assert await world.lines() == ["c1"]
    assert not third.is_done(2)
    await third.aclose()


@FILES
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 19), st.booleans(), st.booleans()), max_size=30
    )
)
async def test_whatever_workers_do_each_line_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[int, int, bool, bool]]
) -> None:
    storage = LocalFolder(tmp_path_factory.mktemp("store"))
    world, epoch = World(storage, 20), 1
    journals = [await world.journal()]
    for which, index, ok, taken_over in history:
        if taken_over:
            epoch += 1
            journals.append(await world.journal(epoch))
        journal = journals[-1 - which % len(journals)]
        if not journal.has_result(index) and not journal.broken.is_set():
            await world.append(journal, index, ok)
            if index % 2:
                await asyncio.gather(journal.flush(), return_exceptions=True)
    await journals[-1].finish()
    lines = await world.lines()
    assert len(lines) == len(set(lines))
    tally = sum((part.tally for part in world.registry.parts.values()), Tally())
    last = journals[-1]
    assert (tally.completed, tally.failed) == (last.succeeded, last.failed)
    assert len(lines) == tally.completed + tally.failed
    for journal in journals:
        await journal.aclose()
    await storage.aclose()


class _Full:
    """A store that has no room until somebody makes some."""

    def __init__(self, inner: LocalFolder) -> None:
        self._inner = inner
        self.room = asyncio.Event()

    async def put(self, name: str, data: bytes) -> None:
        if not self.room.is_set():
            raise StorageFullError("no room")
        await self._inner.put(name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _NoWait:
    """A clock on which every wait is one turn of the loop."""

    def monotonic(self) -> float:
        return 0.0

    def wall_time(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_full_store_is_told_of_and_waited_for_and_nothing_is_lost(world: World) -> None:
    full = _Full(world.storage)
    journal = await world.journal(storage=full, clock=_NoWait())
    await world.append(journal, 1)
    flushing = asyncio.ensure_future(journal.flush())
    while "Results cannot be stored: no room" not in world.troubles:
        await asyncio.sleep(0)
    appending = asyncio.ensure_future(world.append(journal, 2, ok=False))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not flushing.done()
    # Nor is more to be taken that a crash would lose.
    assert not appending.done()
    full.room.set()
    await asyncio.gather(flushing, appending)
    await journal.flush()
    assert world.troubles[-1] is None
    assert await world.lines() == ["c1", "c2"]
    await journal.aclose()


class _Beats:
    """A clock on which a wait is over when the test says so."""

    def __init__(self) -> None:
        self.waits: list[asyncio.Event] = []

    def monotonic(self) -> float:
        return 0.0

    def wall_time(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(asyncio.Event())
        await self.waits[-1].wait()


class _Slow:
    """A store during each of whose writes `meanwhile` happens."""

    def __init__(self, inner: LocalFolder, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._meanwhile = inner, meanwhile

    async def put(self, name: str, data: bytes) -> None:
        await self._meanwhile()
        await self._inner.put(name, data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_what_comes_while_a_part_is_written_waits_for_the_next_beat(world: World) -> None:
    beats, numbers = _Beats(), iter(range(4))

    async def another_line() -> None:
        for number in islice(numbers, 1):
            await world.append(journal, number)

    journal = await world.journal(storage=_Slow(world.storage, another_line), clock=beats)
    await another_line()
    for beat in range(3):
        while len(beats.waits) == beat:
            await asyncio.sleep(0)
        assert len(world.registry.parts) == beat
        beats.waits[beat].set()
    while len(beats.waits) == 3:
        await asyncio.sleep(0)
    assert await world.lines() == ["c0", "c1", "c2"]
    await journal.aclose()


@pytest.mark.parametrize("end", ["flush", "finish", "aclose"])
async def test_whoever_ends_waits_for_a_part_that_is_being_written(world: World, end: str) -> None:
    beats, begun, may_end = _Beats(), asyncio.Event(), asyncio.Event()

    async def until_it_may_end() -> None:
        begun.set()
        await may_end.wait()

    journal = await world.journal(storage=_Slow(world.storage, until_it_may_end), clock=beats)
    await world.append(journal, 0)
    while not beats.waits:
        await asyncio.sleep(0)
    beats.waits[0].set()
    await begun.wait()
    ending = asyncio.ensure_future(getattr(journal, end)())
    for _ in range(10):
        await asyncio.sleep(0)
    assert not ending.done()
    may_end.set()
    await ending
    assert await world.lines() == ["c0"]
    await journal.aclose()


async def test_closing_does_not_wait_for_a_store_that_is_full(world: World) -> None:
    full = _Full(world.storage)
    journal = await world.journal(storage=full)
    await world.append(journal, 1)
    await journal.aclose()
    assert world.registry.parts == {}
    assert journal.broken.is_set()


async def test_closing_does_not_wait_for_a_store_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(name: str, data: bytes) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("batch_gateway.service.part_journal._LAST_SECONDS", 0.01)
    journal = await world.journal()
    monkeypatch.setattr(world.storage, "put", hang)
    await world.append(journal, 0)
    await journal.aclose()
    assert world.registry.parts == {}


async def test_parts_that_a_listing_does_not_have_yet_are_there(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await world.journal()
    for index in range(5):
        await world.append(journal, index)
    await journal.aclose()

    async def nothing(prefix: str) -> list[StoredObject]:
        return []

    monkeypatch.setattr(world.storage, "list", nothing)
    heir = await world.journal(2)
    assert heir.without_result == 95
    assert len(world.registry.parts) == 1
    await heir.aclose()


async def test_a_store_that_is_away_has_lost_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = await world.journal()
    await world.append(journal, 0)
    await journal.aclose()
    known = dict(world.registry.parts)

    async def away(name: str) -> bytes:
        raise StorageUnavailableError(f"{name}: the store does not answer")

    monkeypatch.setattr(world.storage, "read", away)
    with pytest.raises(StorageUnavailableError):
        await world.journal(2)
    assert world.registry.parts == known


async def test_many_small_parts_become_one(world: World) -> None:
    journal = await world.journal()
    for index in range(100):
        await world.append(journal, index)
        await journal.flush()
    assert len(world.registry.parts) < 64
    assert {one.name for one in await world.storage.list(PLACE + "/")} == set(world.registry.parts)
    tally = sum((part.tally for part in world.registry.parts.values()), Tally())
    assert tally == journal.tally == Tally(100, 0, Usage(100, 200))
    assert len(await world.lines()) == 100
    await journal.aclose()
    heir = await world.journal(epoch=2)
    assert heir.without_result == 0
    await heir.aclose()


async def test_parts_that_are_no_small_ones_are_not_written_once_more(world: World) -> None:
    journal = await world.journal()
    half_a_mebibyte = b'{"answer": "%s"}\n' % (b"x" * 512 * 1024)
    for index in range(70):
        await journal.append(index, half_a_mebibyte, True)
        await journal.flush()
    assert len(world.registry.parts) == 70
    await journal.aclose()


async def test_putting_small_parts_together_hides_none_that_is_damaged(
    world: World, tmp_path: Path
) -> None:
    journal = await world.journal()
    for index in range(100):
        await world.append(journal, index)
        await journal.flush()
        if index == 30:
            path = tmp_path / "objects" / max(world.registry.parts)
            path.write_bytes(path.read_bytes().replace(b"c30", b"c31"))
    await journal.aclose()
    heir = await world.journal(epoch=2)
    assert [index for index in range(100) if not heir.has_result(index)] == [30]
    await heir.aclose()


async def test_small_parts_that_a_crash_left_beside_the_one_of_them_all_count_once(
    world: World,
) -> None:
    journal = await world.journal()
    for index in range(3):
        await world.append(journal, index)
        await journal.flush()
    names = sorted(world.registry.parts)
    data = b"".join([await world.storage.read(name) for name in names])
    whole = Part.of(f"{PLACE}/000001-00000009.output", data, Tally(3, 0, Usage(3, 6)))
    await world.storage.put(whole.name, data)
    # It died before it registered what it had put together, or before it deleted the rest.
    for registered in (names, [whole.name]):
        parts = {one.name: one for one in [whole, *world.registry.parts.values()]}
        world.registry.parts = {name: parts[name] for name in registered}
        heir = await world.journal(epoch=world.registry.epoch + 1)
        assert await world.lines() == ["c0", "c1", "c2"]
        assert heir.succeeded == 3
        await heir.aclose()
    await journal.aclose()
