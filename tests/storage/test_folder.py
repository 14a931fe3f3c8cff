"""A store in a local folder: whole objects or none, whatever happens, and none outside of it."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import (
    NotStoredError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.storage import unfinished
from batch_gateway.storage.folder import LocalFolder
from batch_gateway.storage.protocol import READ_BYTES, check_name

pytestmark = pytest.mark.anyio


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[LocalFolder]:
    store = LocalFolder(tmp_path)
    yield store
    await store.aclose()


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_what_is_deleted_is_gone_with_the_folders_that_it_leaves_empty(
    folder: LocalFolder, tmp_path: Path
) -> None:
    await folder.put("b/1/2", b"x")
    await folder.put("b/2", b"x")
    await folder.delete("b/1/2", "b/1/9")
    await folder.delete("b/1/2")
    assert sorted(path.name for path in (tmp_path / "objects/b").iterdir()) == ["2"]
    with pytest.raises(NotStoredError, match="b/1/2 is not stored"):
        await folder.read("b/1/2")
    with pytest.raises(NotStoredError):
        await folder.size("b/1/2")


async def test_writing_and_deleting_in_one_folder_do_not_disturb_each_other(
    folder: LocalFolder,
) -> None:
    async def once(number: int) -> None:
        name = f"b/c/d/{number}"
        for _ in range(20):
            await folder.put(name, b"x")
            await folder.delete(name)
            assert await folder.list(name) == []

    await asyncio.gather(*map(once, range(4)))
    assert await folder.list("b/") == []


async def test_an_object_deleted_while_it_is_read_is_read_to_its_end(folder: LocalFolder) -> None:
    data = os.urandom(3 * READ_BYTES)
    await folder.put("x", data)
    pieces = [b""]
    async for piece in folder.stream("x"):
        if len(pieces) == 1:
            await folder.delete("x")
        pieces.append(piece)
    assert b"".join(pieces) == data


async def test_an_upload_is_not_seen_before_it_is_committed(
    folder: LocalFolder, tmp_path: Path
) -> None:
    pieces = [os.urandom(700_000) for _ in range(5)]
    async with folder.upload("u") as upload:
        for piece in pieces:
            await upload.append(piece)
            assert await folder.list("u") == []
        await upload.commit()
        assert await folder.read("u") == b"".join(pieces)
    assert files_in(tmp_path) == ["objects/u"]


async def test_an_upload_that_is_given_up_leaves_nothing(
    folder: LocalFolder, tmp_path: Path
) -> None:
    async with folder.upload("u") as upload:
        await upload.append(b"x" * 3_000_000)
    begun = asyncio.Event()

    async def endless() -> None:
        async with folder.upload("u") as upload:
            while True:
                await upload.append(b"x" * 2_000_000)
                begun.set()

    task = asyncio.create_task(endless())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


async def test_a_cancelled_start_of_an_upload_or_a_reading_leaves_nothing_open(
    folder: LocalFolder, tmp_path: Path
) -> None:
    await folder.put("x", b"abc")
    open_before = open_files()

    async def upload() -> None:
        async with folder.upload("u") as upload:
            await upload.append(b"x")

    for action in (upload, lambda: folder.read("x")):
        task = asyncio.ensure_future(action())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert open_files() == open_before
    assert files_in(tmp_path) == ["objects/x"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "a/../b",
        "a/..",
        ".hidden",
        "a//b",
        "a/",
        "a\0b",
        "a\nb",
        "a\n",
        "a\\b",
        "\ud800",
        "ä",
        "a" * 1000,
        "~",
        "a b",
    ],
)
async def test_a_name_that_could_leave_the_folder_is_refused(
    folder: LocalFolder, tmp_path: Path, name: str
) -> None:
    for action in (folder.put(name, b"x"), folder.create(name, b"x"), folder.read(name)):
        with pytest.raises(StorageError, match="cannot be the name"):
            await action
    with pytest.raises(StorageError, match="cannot be the name"):
        async with folder.upload(name):
            pass
    assert files_in(tmp_path) == []


@given(st.text(alphabet="ab./\\~\0-_A1", max_size=12))
def test_every_name_that_is_taken_is_a_place_below_the_folder(name: str) -> None:
    try:
        check_name(name)
    except StorageError:
        return
    root = Path("/root/of/it")
    place = Path(os.path.normpath(root / name))
    assert place.is_relative_to(root)
    assert place != root
    assert place.relative_to(root).as_posix() == name


async def test_a_full_disk_is_an_error_of_its_own_and_leaves_what_was_there(
    folder: LocalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folder.put("x", b"old")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(unfinished.os, "write", full)
    with pytest.raises(StorageFullError, match="x: No space left on device"):
        await folder.put("x", b"new")
    monkeypatch.undo()
    assert await folder.read("x") == b"old"
    assert files_in(tmp_path) == ["objects/x"]


async def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file: Not a directory"):
        LocalFolder(tmp_path / "file")


WRITER = """
import asyncio, sys
from batch_gateway.storage.folder import LocalFolder

async def main():
    folder = LocalFolder(sys.argv[1])
    async with folder.upload("half") as upload:
        await upload.append(b"x" * 3_000_000)
        print("begun", flush=True)
        number = 0
        while True:
            await folder.put(f"parts/{number % 7}", bytes([65 + number % 26]) * 300_000)
            await folder.create(f"made/{number}", b"y" * 1000)
            number += 1

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_whole_objects_and_nothing_else(tmp_path: Path) -> None:
    store = LocalFolder(tmp_path)
    for _ in range(5):
        writer = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, tmp_path, stdout=asyncio.subprocess.PIPE
        )
        assert writer.stdout is not None
        await writer.stdout.readline()
        while not await store.list("made/"):
            await asyncio.sleep(0.01)
        assert len(list((tmp_path / "unfinished").iterdir())) >= 1
        writer.kill()
        await writer.wait()
        for name, size in await store.list("parts/"):
            data = await store.read(name)
            assert size == 300_000
            assert data == data[:1] * 300_000
        assert {item.size for item in await store.list("made/")} == {1000}
        for item in await store.list("made/"):
            await store.delete(item.name)
    await LocalFolder(tmp_path).aclose()
    await store.aclose()
    assert list((tmp_path / "unfinished").iterdir()) == []


async def test_opening_the_folder_leaves_alone_what_another_is_writing(tmp_path: Path) -> None:
    first = LocalFolder(tmp_path)
    async with first.upload("u") as upload:
        await upload.append(b"x" * 2_000_000)
        second = LocalFolder(tmp_path)
        await upload.commit()
    assert await second.size("u") == 2_000_000
    await first.aclose()
    await second.aclose()


async def test_what_is_in_a_folder_that_is_not_mounted_is_away_and_not_gone(
    folder: LocalFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await folder.put("a/b", b"x")

    async def upload() -> None:
        async with folder.upload("c") as upload:
            await upload.append(b"x")

    async def act() -> None:
        for attempt in (
            lambda: folder.read("a/b"),
            lambda: folder.size("a/b"),
            lambda: folder.list("a/"),
            lambda: folder.folders("a/"),
            lambda: folder.delete("a/b"),
            lambda: folder.open_local("a/b"),
            lambda: folder.put("c", b"x"),
            lambda: folder.create("c", b"x"),
            upload,
        ):
            with pytest.raises(StorageUnavailableError, match="is it mounted"):
                await attempt()

    for name in ("objects", "unfinished"):
        (tmp_path / name).rename(tmp_path / f"{name}-away")
    await act()
    assert not (tmp_path / "objects").exists()
    for name in ("objects", "unfinished"):
        (tmp_path / f"{name}-away").rename(tmp_path / name)
    assert await folder.read("a/b") == b"x"
    with pytest.raises(NotStoredError):
        await folder.read("c")
    assert [one.getMessage()[:34] for one in caplog.records] == [
        "the folder of files is not there: ",
        "the folder of files is back after ",
    ]
