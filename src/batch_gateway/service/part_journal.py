"""The journal of a shard: its results as small objects in a store, each of them registered.

A part is registered by a transaction that holds only while the shard is ours, and what is counted
of a batch is what its registered parts hold. So whatever a worker writes that was paused, and whose
shard is another's by then, is never looked at, and counts always equal what the files come to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, Self

from batch_gateway.clock import SYSTEM_CLOCK, Clock, wait_at_most
from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.journal import Ledger
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_line import Role
from batch_gateway.errors import (
    BatchGatewayError,
    FencedError,
    JournalError,
    RecordsError,
    StorageError,
)
from batch_gateway.service.part_reader import PartReader, StoredLine, part_of
from batch_gateway.service.parts import Part, Tally, ending, role_of_part
from batch_gateway.storage.protocol import Storage
from batch_gateway.wire.usage import Usage

__all__ = ["PartJournal", "Registry"]

_log = logging.getLogger("batch_gateway.processor")

WRITE_SECONDS: Final = 0.25
"""The results of so long may be lost, and their requests sent again, when a process dies."""

_PART_BYTES = 4 * 1024 * 1024
# A slow batch makes hundreds of thousands of parts of a line or two. To read and write all results
# of a quick one once more would cost more than it has of reading them one by one at the end.
_MOST_SMALL_PARTS, _SMALL_BYTES = 64, 512 * 1024
_MOST_UNWRITTEN = 2 * _PART_BYTES
_RETRY_SECONDS = 1.0
_LAST_SECONDS = 2.0
# Whether a line is of an answer: a bool is a place in a tuple, and cheaper to ask for than a role.
_KINDS: Final = {True: Role.SUCCESS, False: Role.FAILURE}
_NAME = re.compile(r"(?:.*/)?([0-9]+)-[0-9]+\.(?:output|errors)")


class Registry(Protocol):
    """Where the parts of one shard are registered, as long as the shard is ours."""

    async def registered(self) -> Mapping[str, Part]:
        """Those that are, by their names. Raises RecordsError."""
        ...

    async def register(self, parts: Sequence[Part]) -> None:
        """All of them or none. Raises FencedError when the shard is another's, and RecordsError."""
        ...

    async def drop(self, parts: Sequence[Part]) -> None:
        """They count no more, since what was in them is lost. Raises as `register` does."""
        ...

    async def replace(self, parts: Sequence[Part], whole: Part) -> None:
        """`whole`, which holds the same lines, counts in their place. Raises as `register` does."""
        ...


class PartJournal(Ledger):
    """A `Journal` below `place` (`batches/…/0`) in a store. Close it with `aclose`.

    A store that fails or is full does not end a run: the journal tries again until it is written
    or `aclose` is called, tells `on_trouble` (with None when it is over), and `append` waits.

    With `has_models` the lines are counted by model too.

    Attributes:
        broken: set when the shard is another's; `append` then raises, and the run stops.
        failure: why; FencedError, or that of a store which failed while nobody could wait for it.
        tally: of the lines that were registered.
    """

    def __init__(
        self,
        plan: Plan,
        storage: Storage,
        place: str,
        epoch: int,
        registry: Registry,
        *,
        usage: Callable[[], Usage],
        has_models: bool = False,
        on_trouble: Callable[[str | None], None],
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(Bitmap(plan.requests), Bitmap(plan.requests))
        self.broken = asyncio.Event()
        self.tally = Tally()
        self._plan, self._storage = plan, storage
        self._reader = PartReader(storage, plan)
        self._place, self._epoch, self._registry = place, epoch, registry
        self._usage, self._on_trouble, self._clock = usage, on_trouble, clock
        self._usage_written = Usage()
        self._lines = _no_lines()
        self._size = self._sequence = 0
        self._has_models, self._models = has_models, _no_models()
        self._unregistered: list[Part] = []
        self._small: dict[Role, list[Part]] = {role: [] for role in Role}
        self.failure: BatchGatewayError | None = None
        # What cannot be stored is not to become more and more, which a crash would lose.
        self._in_trouble = False
        self._closing = asyncio.Event()
        self._something, self._plenty, self._room = (asyncio.Event() for _ in range(3))
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """Read what is done, and adopt what the last worker wrote but could not register.

        Parts that are lost or damaged count no more, so that their requests have no result.
        Raises FencedError, RecordsError, StorageError, and JournalError for a part that holds
        anything but results of this shard.
        """
        registered = await self._registry.registered()
        found = await self._storage.list(f"{self._place}/")
        lost: list[Part] = []
        for part in registered.values():
            lines = await self._reader.lines(part)
            if lines is None:
                lost.append(part)
            else:
                self._take_all(lines)
        if lost:
            await self._registry.drop(lost)
            _tell_of_lost(lost)
        # First part wins: by epoch, and within one in the order of their writing.
        strangers = [o.name for o in found if o.name not in registered and self._is_older(o.name)]
        adopted = [part for name in strangers if (part := await self._adopted(name)) is not None]
        if adopted:
            await self._registry.register(adopted)
            self.tally = sum((part.tally for part in adopted), self.tally)
        return self

    def _is_older(self, name: str) -> bool:
        found = _NAME.fullmatch(name)
        return found is not None and int(found[1]) < self._epoch

    def _take_all(self, lines: Sequence[StoredLine]) -> None:
        for index, ok, _ in lines:
            self.take(index, ok)

    async def _adopted(self, name: str) -> Part | None:
        """An older part, taken as it is; None when it is damaged, or when another worker's results
        came before."""
        lines = await self._reader.lines_of_unregistered(name)
        if not lines or any(self.has_result(index) for index, _, _ in lines):
            return None
        self._take_all(lines)
        models = Counter(self._plan.model_of(line.request) for line in lines)
        return part_of(name, lines, dict(models) if self._has_models else {})

    async def append(self, index: int, line: bytes, ok: bool) -> None:
        """Take the result line of request `index`, which is written within a quarter of a second.

        Waits while 8 MiB are unwritten, or none can be. Raises JournalError when the shard is
        another's.
        """
        if self.failure is not None:
            self._raise_failure()
        self._lines[ok].append(line)
        self.take(index, ok)
        if self._has_models:
            self._models[ok][self._plan.model_of(index)] += 1
        if not self._size:
            self._something.set()
        self._size += len(line)
        if self._writer is None:
            self._writer = asyncio.create_task(self._keep_writing())
        if self._size >= _PART_BYTES:
            self._plenty.set()
        if self._size > _MOST_UNWRITTEN or self._in_trouble:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        while (self._size > _MOST_UNWRITTEN or self._in_trouble) and self.failure is None:
            self._room.clear()
            await self._room.wait()
        self._raise_failure()

    async def flush(self) -> None:
        await self._write_all()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self.failure is not None:
            raise JournalError(str(self.failure)) from self.failure

    async def finish(self, *, ordered: bool = False) -> None:
        """Flush: it is the whole batch whose result files are put together, from all parts."""
        await self.flush()

    async def aclose(self) -> None:
        """Write what is left if the store takes it at the first try and soon, and stop."""
        self._closing.set()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        # A store that hangs is not to keep a process that has been told to stop.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_SECONDS):
                await self._write_all()

    async def _keep_writing(self) -> None:
        while True:
            await self._something.wait()
            await wait_at_most(self._clock, WRITE_SECONDS, self._plenty)
            # Being closed in the middle of a write leaves it for `aclose` to end.
            await asyncio.shield(self._write())

    async def _write_all(self) -> None:
        """As `_write` does, with what comes meanwhile and what is being written already."""
        while True:
            await self._write()
            if self.failure is not None or not (self._size or self._unregistered):
                return

    async def _write(self) -> None:
        """Store and register what is in memory now; sets `failure` when that cannot be.

        What comes meanwhile waits for the next time: lines may come as fast as parts are written.
        """
        async with self._writing:
            while self.failure is None and (self._size or self._unregistered):
                try:
                    await self._write_once()
                except FencedError as error:
                    self._fail(error)
                except (StorageError, RecordsError) as error:
                    self._in_trouble = True
                    self._on_trouble(f"Results cannot be stored: {error}")
                    if self._closing.is_set():
                        self._fail(error)
                    else:
                        await wait_at_most(self._clock, _RETRY_SECONDS, self._closing)
                    continue
                self._in_trouble = False
                self._room.set()
                self._on_trouble(None)
                return

    async def _write_once(self) -> None:
        """A part of each role. What was taken out of memory is put back if it is not stored."""
        if not self._unregistered:
            lines, size, models = self._lines, self._size, self._models
            used = self._usage()
            self._lines, self._size = _no_lines(), 0
            self._models = _no_models()
            self._something.clear()
            self._plenty.clear()
            try:
                self._unregistered = await self._stored(lines, used, models)
            except BaseException:
                for ok in _KINDS:
                    self._lines[ok][:0] = lines[ok]
                    self._models[ok].update(models[ok])
                self._size += size
                self._something.set()
                raise
            self._usage_written = used
        await self._registry.register(self._unregistered)
        registered, self._unregistered = self._unregistered, []
        self.tally = sum((part.tally for part in registered), self.tally)
        for part in registered:
            # They are as good as they are.
            with contextlib.suppress(StorageError, RecordsError):
                await self._note_small(part)

    async def _note_small(self, part: Part) -> None:
        """Make one part of many small ones."""
        role = role_of_part(part.name)
        small = self._small[role]
        if part.bytes < _SMALL_BYTES:
            small.append(part)
        if len(small) < _MOST_SMALL_PARTS:
            return
        data = await self._reader.bytes_of(small)
        if data is None:
            # What is lost is found when all parts are read; here it is only not to be hidden.
            self._small[role] = []
            return
        whole = Part.of(self._next_name(role), data, sum((p.tally for p in small), Tally()))
        await self._storage.put(whole.name, data)
        await self._registry.replace(small, whole)
        self._small[role] = [whole] if whole.bytes < _SMALL_BYTES else []
        await self._storage.delete(*(one.name for one in small))

    def _next_name(self, role: Role) -> str:
        self._sequence += 1
        return f"{self._place}/{self._epoch:06}-{self._sequence:08}{ending(role)}"

    async def _stored(
        self,
        lines: Sequence[Sequence[bytes]],
        used: Usage,
        models: Sequence[Counter[str]],
    ) -> list[Part]:
        parts: list[Part] = []
        for ok, role in _KINDS.items():
            taken = lines[ok]
            if not taken:
                continue
            name = self._next_name(role)
            data = b"".join(taken)
            await self._storage.put(name, data)
            usage = used - self._usage_written if role is Role.SUCCESS else Usage()
            tally = Tally.of(role, len(taken), usage, dict(models[ok]))
            parts.append(Part.of(name, data, tally))
        return parts

    def _fail(self, failure: BatchGatewayError) -> None:
        self.failure = failure
        self.broken.set()
        self._room.set()


def _no_lines() -> tuple[list[bytes], list[bytes]]:
    """Those of failures and of answers, as `_KINDS` has it."""
    return [], []


def _no_models() -> tuple[Counter[str], Counter[str]]:
    return Counter(), Counter()


def _tell_of_lost(lost: Sequence[Part]) -> None:
    for part in lost:
        _log.warning(
            "%s is damaged or gone: its %d results are lost, and their requests are sent again",
            part.name,
            part.tally.lines,
        )
