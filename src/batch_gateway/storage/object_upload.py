"""Writing an object of any size to a bucket, from pieces that come as they come.

What fits into one part is stored at once when it is committed. What does not goes up in parts while
it comes, a few of which are in memory; the store puts them together at the end, or forgets them.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import TYPE_CHECKING, Final

import obstore

from batch_gateway.clock import Clock
from batch_gateway.errors import StorageError
from batch_gateway.storage.insisting import STORE_ERRORS, Insisting
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.store_troubles import trouble_of

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["LONG_PATIENCE", "MAKER", "PART_BYTES", "ObjectUpload"]

LONG_PATIENCE: Final = 100.0
"""How many seconds a store may be away in the middle of an upload or a download."""

PART_BYTES: Final = 6 * 1024 * 1024
MAKER: Final = "batchgatewaymaker"
"""The name under which an object says who made it; Azure takes no dashes."""

_PARTS_AT_ONCE: Final = 2
_PIECE_BYTES: Final = 1024 * 1024
# Telling a store to forget an upload is worth so long; otherwise it is found later.
_GIVE_UP_SECONDS: Final = 5.0


class _GivenUpError(Exception):
    """Nobody commits the upload any more."""


class ObjectUpload:
    """An `Upload` to a bucket. End it with `aclose`."""

    def __init__(
        self, store: ObjectStore, uploads: ObjectStore, path: str, clock: Clock, outage: OutageLog
    ) -> None:
        self._store, self._uploads, self._path = store, uploads, path
        self._clock, self._outage = clock, outage
        self._held = bytearray()
        self._size = 0
        self._token = secrets.token_hex(16)
        self._pieces = _Pieces()
        self._sending: asyncio.Task[object] | None = None

    async def append(self, data: bytes) -> None:
        self._held += data
        self._size += len(data)
        if self._sending is None and len(self._held) > PART_BYTES:
            self._sending = asyncio.create_task(self._send_parts())
            self._sending.add_done_callback(_heard)
        if self._sending is not None and len(self._held) >= _PIECE_BYTES:
            await self._hand_over(self._sending, self._take())

    def _take(self) -> bytes:
        """What is held, and is not from then on."""
        data = bytes(self._held)
        self._held.clear()
        return data

    async def commit(self) -> None:
        if self._sending is None:
            data = self._take()
            await Insisting(LONG_PATIENCE, self._clock, self._outage).result_of(
                lambda: obstore.put_async(self._store, self._path, data, use_multipart=False),
                self._path,
            )
            return
        await self._hand_over(self._sending, self._take())
        await self._hand_over(self._sending, None)
        await asyncio.wait({self._sending})
        if not await self._has_landed(self._sending):
            raise self._failure(self._sending)

    async def aclose(self) -> None:
        """Leave nothing in the store of an upload that was not committed."""
        task = self._sending
        if task is None or task.done():
            return
        self._pieces.end(_GivenUpError())
        try:
            await asyncio.wait({task}, timeout=_GIVE_UP_SECONDS)
        finally:
            task.cancel()

    async def _send_parts(self) -> object:
        return await obstore.put_async(
            self._uploads,
            self._path,
            self._pieces,
            attributes={MAKER: self._token},
            use_multipart=True,
            chunk_size=PART_BYTES,
            max_concurrency=_PARTS_AT_ONCE,
        )

    async def _hand_over(self, task: asyncio.Task[object], piece: bytes | None) -> None:
        taken = asyncio.ensure_future(self._pieces.put(piece))
        try:
            await asyncio.wait({taken, task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            taken.cancel()
        if task.done() and piece is not None:
            raise self._failure(task)

    async def _has_landed(self, task: asyncio.Task[object]) -> bool:
        """Whether the object is there, though the answer that says so may have been lost."""
        if task.exception() is None:
            return True
        with contextlib.suppress(StorageError):
            found = await Insisting(LONG_PATIENCE, self._clock, self._outage).result_of(
                lambda: obstore.get_async(self._store, self._path, options={"head": True}),
                self._path,
            )
            return found.attributes.get(MAKER) == self._token and found.meta["size"] == self._size
        return False

    def _failure(self, task: asyncio.Task[object]) -> StorageError:
        error = task.exception()
        if isinstance(error, STORE_ERRORS):
            trouble = trouble_of(error)
            if not trouble.is_missing:
                trouble.tell(self._outage)
                return trouble.of(self._path)
        return StorageError(f"{self._path}: the store has given its upload up")


def _heard(task: asyncio.Task[object]) -> None:
    """The end of an upload that was given up is nobody's to hear of."""
    if not task.cancelled():
        task.exception()


class _Pieces:
    """What obstore takes the bytes from; one piece is ready at a time."""

    def __init__(self) -> None:
        self._next = asyncio.Queue[bytes | None | _GivenUpError](1)

    async def put(self, piece: bytes | None) -> None:
        await self._next.put(piece)

    def end(self, error: _GivenUpError) -> None:
        while not self._next.empty():
            self._next.get_nowait()
        self._next.put_nowait(error)

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next.get()
        if piece is None:
            raise StopAsyncIteration
        if isinstance(piece, _GivenUpError):
            raise piece
        return piece
