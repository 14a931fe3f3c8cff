"""A store in a folder of this machine, made so that no crash leaves half an object behind.

An object is written under a temporary name, synced to the device, given its name, and its folder is
synced. Several processes may use one folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

from batch_gateway.errors import (
    NotStoredError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.protocol import NO_ROOM, READ_BYTES, StoredObject, check_name
from batch_gateway.storage.unfinished import UnfinishedFile, remove_abandoned, sync_folder

__all__ = ["LocalFolder"]

_log = logging.getLogger("batch_gateway.storage")

_NOT_MOUNTED = "the folder of files is not there: is it mounted?"
_WRITE_BYTES = 1024 * 1024
_THREADS = 8

_Result = TypeVar("_Result")
_Run = Callable[[Callable[[], object]], Awaitable[object]]


class LocalFolder:
    """The folder `root`, which is made when it is missing. Close it with `aclose`.

    Raises StorageError when the folder cannot be made or written to.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._objects = Path(root) / "objects"
        self._unfinished = Path(root) / "unfinished"
        self._threads = ThreadPoolExecutor(_THREADS, "storage")
        self._outage = OutageLog("the folder of files", _log)
        try:
            for folder in (self._objects, self._unfinished):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            remove_abandoned(self._unfinished)
        except OSError as error:
            raise StorageError(f"{os.fspath(root)}: {error.strerror}") from error

    async def put(self, name: str, data: bytes) -> None:
        await self._run(name, partial(self._store, name, data, replace=True))

    async def create(self, name: str, data: bytes) -> bool:
        return await self._run(name, partial(self._store, name, data, replace=False))

    def _store(self, name: str, data: bytes, *, replace: bool) -> bool:
        with UnfinishedFile(self._unfinished) as file:
            file.write(data)
            return file.become(self._path(name), self._objects, replace=replace)

    @contextlib.asynccontextmanager
    async def upload(self, name: str) -> AsyncGenerator[_FolderUpload, None]:
        target = self._path(name)
        file = await self._run(name, partial(UnfinishedFile, self._unfinished), _close)
        try:
            yield _FolderUpload(partial(self._run, name), file, target, self._objects)
        finally:
            await self._run(name, file.close)

    async def list(self, prefix: str) -> list[StoredObject]:
        top = self._path(prefix.rstrip("/"))
        return await self._run(prefix, lambda: sorted(self._walk(self._mounted(top))))

    def _walk(self, folder: Path) -> Iterator[StoredObject]:
        try:
            entries = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(path)
            else:
                with contextlib.suppress(FileNotFoundError):
                    size = entry.stat(follow_symlinks=False).st_size
                    yield StoredObject(path.relative_to(self._objects).as_posix(), size)

    async def folders(self, prefix: str) -> list[str]:
        top = self._path(prefix.rstrip("/"))
        return await self._run(prefix, lambda: sorted(_folders_in(self._mounted(top))))

    async def size(self, name: str) -> int:
        path = self._path(name)
        return (await self._run(name, path.stat)).st_size

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        pieces = [piece async for piece in self.stream(name, start, end)]
        return b"".join(pieces)

    async def stream(
        self, name: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        path = self._path(name)
        file = await self._run(name, lambda: path.open("rb", buffering=0), _close)
        with file:
            fd = file.fileno()
            last = os.fstat(fd).st_size if end is None else end
            while start < last:
                step = min(READ_BYTES, last - start)
                piece = await self._run(name, partial(os.pread, fd, step, start))
                if not piece:
                    return
                start += len(piece)
                yield piece

    async def delete(self, *names: str) -> None:
        for name in names:
            await self._run(name, partial(self._delete, self._path(name)))

    def _delete(self, path: Path) -> None:
        try:
            path.unlink()
        except FileNotFoundError:
            self._mounted(path)
            return
        for parent in path.parents:
            # A folder that became empty goes too; the first that stays is what has changed.
            try:
                if parent != self._objects:
                    parent.rmdir()
                    continue
            except FileNotFoundError:
                continue
            except OSError:
                pass
            with contextlib.suppress(FileNotFoundError):
                sync_folder(parent)
                break

    async def open_local(self, name: str, start: int = 0, end: int | None = None) -> int:
        path = self._path(name)
        return await self._run(name, lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC), os.close)

    async def clear(self) -> None:
        await self._run("unfinished", partial(remove_abandoned, self._unfinished))

    async def aclose(self) -> None:
        self._threads.shutdown()

    def _path(self, name: str) -> Path:
        return self._objects / check_name(name)

    def _mounted(self, path: Path) -> Path:
        """`path`, as long as there is a folder at all: where that is not mounted just now, nothing
        in it is gone."""
        self._objects.stat()
        return path

    async def _run(
        self,
        name: str,
        action: Callable[[], _Result],
        undo: Callable[[_Result], None] | None = None,
    ) -> _Result:
        """`action` in a thread, with its errors as ours; `undo` gives back what nobody took.

        A cancelled caller waits for the end: the thread must not find its file closed, or that
        its number has become another file's.
        """
        job = asyncio.get_running_loop().run_in_executor(self._threads, action)
        try:
            result = await asyncio.shield(job)
        except asyncio.CancelledError:
            await _ended(job)
            if undo is not None and not job.exception():
                undo(job.result())
            raise
        except FileNotFoundError as error:
            if not self._objects.exists():
                self._outage.met(_NOT_MOUNTED)
                raise StorageUnavailableError(f"{name}: {_NOT_MOUNTED}") from error
            raise NotStoredError(f"{name} is not stored") from error
        except OSError as error:
            kind = StorageFullError if error.errno in NO_ROOM else StorageError
            raise kind(f"{name}: {error.strerror or error}") from error
        self._outage.over()
        return result


class _FolderUpload:
    """Gathers small pieces, so that a thread is asked once for each MiB."""

    def __init__(self, run: _Run, file: UnfinishedFile, target: Path, root: Path) -> None:
        self._run, self._file = run, file
        self._target, self._root = target, root
        self._held = bytearray()

    async def append(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= _WRITE_BYTES:
            await self._write()

    async def commit(self) -> None:
        await self._write()
        await self._run(partial(self._file.become, self._target, self._root, replace=True))

    async def _write(self) -> None:
        held, self._held = self._held, bytearray()
        await self._run(partial(self._file.write, held))


def _folders_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


async def _ended(job: asyncio.Future[_Result]) -> None:
    while not job.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({job})


def _close(file: UnfinishedFile | FileIO) -> None:
    file.close()
