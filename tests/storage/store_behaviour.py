"""What every store does, whatever it is: tests that each kind of store runs as its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from batch_gateway.errors import NotStoredError, StorageError
from batch_gateway.storage.object_upload import PART_BYTES
from batch_gateway.storage.protocol import READ_BYTES, Storage, StoredObject

__all__ = ["StoreBehaviour", "store_operations"]

pytestmark = pytest.mark.anyio


class StoreBehaviour:
    """Derive a class from it that has a fixture `store`."""

    pytestmark = pytest.mark.anyio

    async def test_an_object_is_read_as_it_was_put_whole_and_in_ranges(
        self, store: Storage
    ) -> None:
        data = os.urandom(2 * READ_BYTES + 17)
        size = len(data)
        await store.put("files/one", data)
        assert await store.size("files/one") == size
        for start, end in (
            (0, None),
            (5, READ_BYTES + 9),
            (7, 7),
            (7, 8),
            (size - 3, size + 100),
            (size - 1, None),
            (size, None),
            (size, size + 9),
            (size + 1, None),
        ):
            assert await store.read("files/one", start, end) == data[start:end]
        pieces = [len(piece) async for piece in store.stream("files/one")]
        assert sum(pieces) == size
        assert min(pieces) > 0

    async def test_an_empty_object_is_one(self, store: Storage) -> None:
        await store.put("empty", b"")
        async with store.upload("uploaded") as upload:
            await upload.commit()
        for name in ("empty", "uploaded"):
            assert await store.size(name) == 0
            assert await store.read(name) == await store.read(name, 0, 9) == b""
            os.close(await store.open_local(name))

    async def test_putting_replaces_and_creating_does_not(self, store: Storage) -> None:
        assert await store.create("a/b", b"first")
        assert not await store.create("a/b", b"second")
        assert not await store.create("a/b", b"first")
        assert await store.read("a/b") == b"first"
        await store.put("a/b", b"third")
        assert await store.read("a/b") == b"third"

    async def test_of_many_that_create_one_name_one_wins(self, store: Storage) -> None:
        offers = [b"%d" % number for number in range(12)]
        won = await asyncio.gather(*(store.create("n", offer) for offer in offers))
        assert won.count(True) == 1
        assert await store.read("n") == offers[won.index(True)]

    async def test_a_listing_is_sorted_and_keeps_to_its_prefix(self, store: Storage) -> None:
        for name in ("b/1/2", "b/1/1", "b/10/1", "c"):
            await store.put(name, b"xy")
        assert await store.list("b/1/") == [StoredObject("b/1/1", 2), StoredObject("b/1/2", 2)]
        assert [item.name for item in await store.list("b/")] == ["b/1/1", "b/1/2", "b/10/1"]
        assert await store.list("nothing/") == []

    async def test_folders_are_told_once_each_without_what_is_in_them(self, store: Storage) -> None:
        for name in ("b/1/2", "b/1/3/4", "b/10/1", "b/2", "c/9"):
            await store.put(name, b"xy")
        assert await store.folders("b/") == ["1", "10"]
        assert await store.folders("nothing/") == await store.folders("b/2/") == []

    async def test_what_is_deleted_is_gone_and_what_is_not_there_is_as_good(
        self, store: Storage
    ) -> None:
        names = [f"b/{number % 7}/{number}" for number in range(40)]
        await asyncio.gather(*(store.put(name, b"x") for name in names))
        await store.delete()
        await store.delete(names[0])
        await store.delete("b/none", *names[:30], "c/none")
        assert [one.name for one in await store.list("b/")] == sorted(names[30:])
        with pytest.raises(NotStoredError, match="b/0/0 is not stored"):
            await store.read("b/0/0")
        for read in (store.size("b/0/0"), store.read("b/0/0", 3, 3), store.open_local("b/0/0")):
            with pytest.raises(NotStoredError):
                await read

    async def test_a_local_copy_has_the_bytes_at_their_places(self, store: Storage) -> None:
        data = os.urandom(READ_BYTES + 100)
        await store.put("x", data)
        for start, end in ((0, None), (17, READ_BYTES + 20)):
            with os.fdopen(await store.open_local("x", start, end), "rb") as file:
                last = len(data) if end is None else end
                assert os.pread(file.fileno(), last - start, start) == data[start:last]
        await store.put("x", b"another")
        with os.fdopen(await store.open_local("x"), "rb") as file:
            assert os.pread(file.fileno(), 99, 0) == b"another"
        await store.delete("x")
        with pytest.raises(NotStoredError):
            await store.open_local("x")

    @pytest.mark.parametrize("size", [5, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 12_345])
    async def test_an_upload_is_not_seen_before_it_is_committed(
        self, store: Storage, size: int
    ) -> None:
        data = os.urandom(size)
        async with store.upload("u") as upload:
            for start in range(0, size, 700_001):
                await upload.append(data[start : start + 700_001])
            assert await store.list("u") == []
            await upload.commit()
            assert await store.read("u") == data
        assert [one.name for one in await store.list("u")] in ([], ["u"])
        assert await store.read("u") == data

    @pytest.mark.parametrize("size", [5, 2 * PART_BYTES])
    async def test_an_upload_that_is_given_up_leaves_nothing(
        self, store: Storage, size: int
    ) -> None:
        begun = asyncio.Event()

        async def give_up(*, waits: bool) -> None:
            async with store.upload("u/v") as upload:
                await upload.append(b"x" * size)
                begun.set()
                while waits:
                    await asyncio.sleep(1)

        await give_up(waits=False)
        task = asyncio.create_task(give_up(waits=True))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.list("u/") == []

    async def test_a_name_that_could_mean_another_place_is_refused(self, store: Storage) -> None:
        for name in ("", "..", "a/../b", "/a", "a//b", "a/", "a\nb", "ä", "a b", "a" * 1000):
            for action in (store.put(name, b"x"), store.create(name, b"x"), store.read(name)):
                with pytest.raises(StorageError, match="cannot be the name"):
                    await action
            with pytest.raises(StorageError, match="cannot be the name"):
                async with store.upload(name):
                    pass
            with pytest.raises(StorageError, match="cannot be the name"):
                await store.delete("fine", name)

    async def test_names_that_look_odd_are_names_like_others(self, store: Storage) -> None:
        names = sorted(["a..b", "a/b..", "-", "_/x.y", "A/~".replace("~", "z"), "9.", "a-b_c.d-e"])
        for name in names:
            await store.put(name, name.encode())
        for name in names:
            assert await store.read(name) == name.encode()
        await store.delete(*names)
        for name in names:
            with pytest.raises(NotStoredError):
                await store.read(name)

    async def test_reading_may_stop_anywhere(self, store: Storage) -> None:
        await store.put("x", os.urandom(4 * READ_BYTES))
        async for piece in store.stream("x"):
            assert piece
            break
        assert len(await store.read("x", 10, 20)) == 10


async def store_operations(
    store: Storage, operations: Sequence[tuple[str, str, bytes]]
) -> list[object]:
    """What a store answers to them, one after the other."""
    answers: list[object] = []
    for what, name, data in operations:
        try:
            match what:
                case "put":
                    answers.append(await store.put(name, data))
                case "create":
                    answers.append(await store.create(name, data))
                case "delete":
                    answers.append(await store.delete(name))
                case "upload":
                    async with store.upload(name) as upload:
                        await upload.append(data)
                        await upload.commit()
                case "give up":
                    async with store.upload(name) as upload:
                        await upload.append(data)
                case "list":
                    answers.append(await store.list(f"{name}/"))
                case "folders":
                    answers.append(await store.folders(f"{name}/"))
                case _:
                    answers.append(await store.read(name, len(data)))
        except NotStoredError:
            answers.append("not stored")
    return answers
