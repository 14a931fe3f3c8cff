"""Lines gathered in memory and written by a thread: to the kernel soon, to the device a bit later.

The event loop never waits for a disk; a process that is killed loses at most the lines of the
last 50 ms, a machine that loses power those of the last second.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from batch_gateway.engine.result_file import ResultFile

__all__ = ["WriteBehind"]

_FLUSH_SECONDS = 0.04
_SYNC_SECONDS = 0.8
_MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024
_WRITE_BYTES = 1024 * 1024


class WriteBehind:
    """Buffers lines for some files. Must be closed by `aclose`.

    Attributes:
        failure: the first error of a write or sync; from then on nothing more is written.
        failed: set together with it.
    """

    def __init__(self, files: Sequence[ResultFile]) -> None:
        self.failure: OSError | None = None
        self.failed = asyncio.Event()
        self._files = files
        self._pending: list[list[bytes]] = [[] for _ in files]
        self._taken = 0  # bytes that no write has begun with
        self._writing = 0  # bytes that are being written
        self._tasks: list[asyncio.Task[None]] = []
        self._to_write = asyncio.Event()
        self._to_sync = asyncio.Event()
        self._room = asyncio.Event()
        # One thread each: a slow sync must not hold up the writes, and writes keep their order.
        self._writer = ThreadPoolExecutor(1, "results-write")
        self._syncer = ThreadPoolExecutor(1, "results-sync")

    def put(self, place: int, line: bytes) -> bool:
        """Take a whole line for the file at `place`; whether `wait_for_room` would wait now.

        Raises OSError once writing failed.
        """
        if self.failure is not None:
            raise self.failure
        self._pending[place].append(line)
        is_first = not self._taken
        self._taken += len(line)
        if is_first:
            self._to_write.set()
            if not self._tasks:
                self._tasks = [
                    asyncio.create_task(self._keep_writing()),
                    asyncio.create_task(self._keep_syncing()),
                ]
        return self._taken + self._writing > _MAX_UNWRITTEN_BYTES

    @property
    def _is_full(self) -> bool:
        return self._taken + self._writing > _MAX_UNWRITTEN_BYTES

    async def wait_for_room(self) -> None:
        """Return when less than 8 MiB wait to be written. Raises OSError once writing failed."""
        while self._is_full and self.failure is None:
            self._room.clear()
            await self._room.wait()
        if self.failure is not None:
            raise self.failure

    async def flush(self) -> None:
        """Return when everything taken so far is on the device. Raises OSError."""
        await self._write()
        await self._sync()
        if self.failure is not None:
            raise self.failure

    async def between_syncs(self, action: Callable[[], None]) -> None:
        """Call `action` in the thread that syncs, so that it may put other files in their place."""
        await asyncio.get_running_loop().run_in_executor(self._syncer, action)

    async def aclose(self) -> None:
        """Write what is left, as far as that is possible, and stop. Raises nothing."""
        with contextlib.suppress(OSError):
            await self.flush()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._writer.shutdown()
        self._syncer.shutdown()

    async def _keep_writing(self) -> None:
        while True:
            await self._to_write.wait()
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._write()

    async def _keep_syncing(self) -> None:
        while True:
            await self._to_sync.wait()
            await asyncio.sleep(_SYNC_SECONDS)
            self._to_sync.clear()
            await self._sync()

    async def _write(self) -> None:
        self._to_write.clear()
        batches, self._pending = self._pending, [[] for _ in self._files]
        size, self._taken = self._taken, 0
        self._writing += size
        job = asyncio.get_running_loop().run_in_executor(self._writer, self._write_now, batches)
        job.add_done_callback(lambda done: self._after_write(done, size))
        # `wait` leaves the job alone when we are cancelled: the thread finishes what it began.
        await asyncio.wait({job})

    def _write_now(self, batches: list[list[bytes]]) -> None:
        if self.failure is not None:
            return
        for file, lines in zip(self._files, batches, strict=True):
            for data, count in _joined(lines):
                file.append(data, count)

    def _after_write(self, job: asyncio.Future[None], size: int) -> None:
        self._writing -= size
        self._to_sync.set()
        self._note_failure(job)
        self._room.set()

    async def _sync(self) -> None:
        job = asyncio.get_running_loop().run_in_executor(self._syncer, self._sync_now)
        job.add_done_callback(self._note_failure)
        await asyncio.wait({job})

    def _sync_now(self) -> None:
        for file in self._files:
            file.sync()
        for file in self._files:
            file.check(writing=True)

    def _note_failure(self, job: asyncio.Future[None]) -> None:
        error = None if job.cancelled() else job.exception()
        if isinstance(error, OSError) and self.failure is None:
            self.failure = error
            self.failed.set()
            self._room.set()


def _joined(lines: list[bytes]) -> Iterator[tuple[bytes, int]]:
    """The lines as pieces of about a megabyte, and how many are in each: one copy of all of them
    would double the memory.
    """
    if sum(map(len, lines)) <= _WRITE_BYTES:
        if lines:
            yield b"".join(lines), len(lines)
        return
    start = size = 0
    for end, line in enumerate(lines, 1):
        size += len(line)
        if size >= _WRITE_BYTES or end == len(lines):
            yield b"".join(lines[start:end]), end - start
            start, size = end, 0
