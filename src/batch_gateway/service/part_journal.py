"""The journal of a shard: its results as small objects in a store, each of them registered.

A part is registered by a transaction that holds only while the shard is ours, and what is counted
of a batch is what its registered parts hold. So whatever a worker writes that was paused, and whose
shard is another's by then, is never looked at, and counts always equal what the files come to.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Protocol, Self

import msgspec

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.engine.bitmap import Bitmap
from batch_gateway.engine.journal import Ledger
from batch_gateway.engine.plan import Plan
from batch_gateway.engine.result_line import Role
from batch_gateway.engine.result_reader import ResultReader
from batch_gateway.errors import FencedError, JournalError, RecordsError, StorageError
from batch_gateway.service.parts import Part, Tally, ending, role_of_part
from batch_gateway.storage.protocol import Storage
from batch_gateway.wire.usage import Usage, parse_usage

__all__ = ["PartJournal", "Registry"]

WRITE_SECONDS: Final = 0.25
"""The results of so long may be lost, and their requests sent again, when a process dies."""

_PART_BYTES = 4 * 1024 * 1024
# A slow batch makes hundreds of thousands of parts of a line or two.
_MOST_SMALL_PARTS = 64
_MOST_UNWRITTEN = 2 * _PART_BYTES
_RETRY_SECONDS = 1.0
_NAME = re.compile(r"(?:.*/)?([0-9]+)-[0-9]+\.(?:output|errors)")


class Registry(Protocol):
    """Where the parts of one shard are registered, as long as the shard is ours."""

    async def registered(self) -> set[str]:
        """The names of those that are. Raises RecordsError."""
        ...

    async def register(self, parts: Sequence[Part]) -> None:
        """All of them or none. Raises FencedError when the shard is another's, and RecordsError."""
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
        self._place, self._epoch, self._registry = place, epoch, registry
        self._usage, self._on_trouble, self._clock = usage, on_trouble, clock
        self._usage_written = Usage()
        self._lines: dict[Role, list[bytes]] = {role: [] for role in Role}
        self._size = self._sequence = 0
        self._has_models, self._models = has_models, Counter[str]()
        self._unregistered: list[Part] = []
        self._small: dict[Role, list[Part]] = {role: [] for role in Role}
        self._failure: JournalError | None = None
        self._closing = False
        self._something, self._plenty, self._room = (asyncio.Event() for _ in range(3))
        self._writing = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> Self:
        """Read what is done, and adopt what the last worker wrote but could not register.

        Raises FencedError, RecordsError, StorageError, and JournalError for a part that holds
        anything but results of this shard.
        """
        registered = await self._registry.registered()
        # First part wins: by epoch, and within one in the order of their writing.
        names = [one.name for one in await self._storage.list(f"{self._place}/")]
        for name in names:
            if name in registered:
                for index, ok, _ in await self._read(name):
                    self.take(index, ok)
        strangers = [name for name in names if name not in registered and self._is_older(name)]
        adopted = [part for name in strangers if (part := await self._adopted(name)) is not None]
        if adopted:
            await self._registry.register(adopted)
            self.tally = sum((part.tally for part in adopted), self.tally)
        self._results_before = len(self._succeeded) + len(self._failed)
        return self

    def _is_older(self, name: str) -> bool:
        found = _NAME.fullmatch(name)
        return found is not None and int(found[1]) < self._epoch

    async def _adopted(self, name: str) -> Part | None:
        """An older part, taken as it is; None when another worker's results came before."""
        lines = await self._read(name)
        if any(self.has_result(index) for index, _, _ in lines):
            return None
        for index, ok, _ in lines:
            self.take(index, ok)
        good = sum(ok for _, ok, _ in lines)
        usage = sum((_usage_of_line(line) for _, ok, line in lines if ok), Usage())
        size = sum(len(line) for _, _, line in lines)
        models = Counter(self._plan.model_of(index) for index, _, _ in lines)
        by_model = dict(models) if self._has_models else {}
        return Part(name, size, Tally(good, len(lines) - good, usage, by_model))

    async def _read(self, name: str) -> list[tuple[int, bool, bytes]]:
        role = role_of_part(name)
        reader = ResultReader(name, self._plan, role)
        found: list[tuple[int, bool, bytes]] = []
        async for line in _lines_of(self._storage, name):
            index = reader.index_of(line, len(found) + 1)
            if index is None:
                raise JournalError(f"{name}: line {len(found) + 1} is damaged")
            found.append((index, role is Role.SUCCESS, line))
        return found

    async def append(self, index: int, line: bytes, ok: bool) -> None:
        """Take the result line of request `index`, which is written within a quarter of a second.

        Waits while 8 MiB are unwritten. Raises JournalError when the shard is another's.
        """
        if self._failure is not None:
            raise self._failure
        self._lines[Role.SUCCESS if ok else Role.FAILURE].append(line)
        self.take(index, ok)
        if self._has_models:
            self._models[self._plan.model_of(index)] += 1
        self._size += len(line)
        self._something.set()
        if self._writer is None:
            self._writer = asyncio.create_task(self._keep_writing())
        if self._size >= _PART_BYTES:
            self._plenty.set()
        while self._size > _MOST_UNWRITTEN and self._failure is None:
            self._room.clear()
            await self._room.wait()
        if self._failure is not None:
            raise self._failure

    async def flush(self) -> None:
        await self._write()
        if self._failure is not None:
            raise self._failure

    async def finish(self, *, ordered: bool = False) -> None:
        """Flush: it is the whole batch whose result files are put together, from all parts."""
        await self.flush()

    async def aclose(self) -> None:
        """Write what is left if the store takes it at the first try, and stop."""
        self._closing = True
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
        with contextlib.suppress(JournalError):
            await self._write()

    async def _keep_writing(self) -> None:
        while True:
            await self._something.wait()
            waits = [
                asyncio.ensure_future(self._clock.sleep(WRITE_SECONDS)),
                asyncio.ensure_future(self._plenty.wait()),
            ]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            # Being closed in the middle of a write leaves it for `aclose` to end.
            await asyncio.shield(self._write())

    async def _write(self) -> None:
        """Store and register what is in memory; sets `_failure` when that cannot be."""
        async with self._writing:
            while self._failure is None and (self._size or self._unregistered):
                try:
                    await self._write_once()
                except FencedError as error:
                    self._fail(JournalError(str(error)))
                except (StorageError, RecordsError) as error:
                    if self._closing:
                        self._fail(JournalError(str(error)))
                    self._on_trouble(str(error))
                    await self._clock.sleep(_RETRY_SECONDS)
                    continue
                self._on_trouble(None)

    async def _write_once(self) -> None:
        """A part of each role. What was taken out of memory is put back if it is not stored."""
        if not self._unregistered:
            lines, size, models = self._lines, self._size, self._models
            used = self._usage()
            self._lines, self._size = {role: [] for role in Role}, 0
            self._models = Counter[str]()
            self._something.clear()
            self._plenty.clear()
            try:
                self._unregistered = await self._stored(lines, used, dict(models))
            except BaseException:
                for role in Role:
                    self._lines[role][:0] = lines[role]
                self._size += size
                self._models += models
                self._something.set()
                raise
            self._usage_written = used
        await self._registry.register(self._unregistered)
        registered, self._unregistered = self._unregistered, []
        self.tally = sum((part.tally for part in registered), self.tally)
        self._room.set()
        for part in registered:
            await self._note_small(part)

    async def _note_small(self, part: Part) -> None:
        """Make one part of many small ones."""
        role = role_of_part(part.name)
        small = self._small[role]
        if part.bytes < _PART_BYTES:
            small.append(part)
        if len(small) < _MOST_SMALL_PARTS:
            return
        data = b"".join([await self._storage.read(one.name) for one in small])
        whole = Part(self._next_name(role), len(data), sum((p.tally for p in small), Tally()))
        await self._storage.put(whole.name, data)
        await self._registry.replace(small, whole)
        self._small[role] = [whole] if whole.bytes < _PART_BYTES else []
        for one in small:
            await self._storage.delete(one.name)

    def _next_name(self, role: Role) -> str:
        self._sequence += 1
        return f"{self._place}/{self._epoch:06}-{self._sequence:08}{ending(role)}"

    async def _stored(
        self, lines: dict[Role, list[bytes]], used: Usage, models: dict[str, int]
    ) -> list[Part]:
        parts: list[Part] = []
        for role, taken in lines.items():
            if not taken:
                continue
            name = self._next_name(role)
            data = b"".join(taken)
            await self._storage.put(name, data)
            good = role is Role.SUCCESS
            tally = Tally(
                len(taken) if good else 0,
                0 if good else len(taken),
                used - self._usage_written if good else Usage(),
                # Those of both roles are with the first.
                {} if parts else models,
            )
            parts.append(Part(name, len(data), tally))
        return parts

    def _fail(self, failure: JournalError) -> None:
        self._failure = failure
        self.broken.set()
        self._room.set()


async def _lines_of(storage: Storage, name: str) -> AsyncGenerator[bytes, None]:
    """Whole lines, each with its line break."""
    rest = b""
    async for piece in storage.stream(name):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


class _Response(msgspec.Struct):
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Line(msgspec.Struct):
    response: _Response | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


def _usage_of_line(line: bytes) -> Usage:
    response = _decode_line(line).response
    return Usage() if response is None else parse_usage(bytes(response.body)) or Usage()
