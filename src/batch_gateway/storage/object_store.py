"""A store in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

What a bucket does that a folder does not: it is away for a minute, says that it failed when what
was asked of it is done, and cuts answers off. Each operation is tried again, single ones for some
seconds, since those who ask have a patience of their own; what is in the middle of a body or of an
upload, where more would be lost, for more than a minute.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

import obstore
from obstore.exceptions import AlreadyExistsError

from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.errors import NotStoredError, StorageError, StorageFullError
from batch_gateway.storage.insisting import STORE_ERRORS, Insisting
from batch_gateway.storage.kept_copy import KeptCopy
from batch_gateway.storage.object_upload import LONG_PATIENCE, MAKER, ObjectUpload
from batch_gateway.storage.outage_log import OutageLog
from batch_gateway.storage.protocol import NO_ROOM, READ_BYTES, StoredObject, check_name
from batch_gateway.storage.store_troubles import Trouble, trouble_of
from batch_gateway.storage.unfinished_uploads import UnfinishedUploads

if TYPE_CHECKING:
    from obstore import BytesStream, GetOptions, ListResult, ListStream, ObjectMeta
    from obstore.store import ObjectStore

__all__ = ["Bucket"]

_log = logging.getLogger("batch_gateway.storage")

_PATIENCE: Final = 8.0
_LISTED_AT_ONCE: Final = 1000
_DELETED_AT_ONCE: Final = 1000
_PROBES: Final = "probes"
_CUT_OFF: Final = Trouble("the store cuts its answers off", may_pass=True)

_Result = TypeVar("_Result")
# Their other kinds of results are of a package that is not there.
_untyped = cast("Any", obstore)
_list: Callable[..., ListStream[Sequence[ObjectMeta]]] = _untyped.list
_list_folder: Callable[..., Awaitable[ListResult[Sequence[ObjectMeta]]]] = (
    _untyped.list_with_delimiter_async
)


class Bucket:
    """The bucket, or a prefix of it, that `store` is.

    `uploads` is the same store, which itself tries parts of an upload again; `scratch` a folder of
    this machine for copies of what is to be read from anywhere.
    """

    def __init__(
        self,
        store: ObjectStore,
        uploads: ObjectStore,
        scratch: Path,
        *,
        unfinished: UnfinishedUploads | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._store, self._uploads, self._scratch = store, uploads, scratch
        self._unfinished, self._clock = unfinished, clock
        self._outage = OutageLog("the store of files", _log, clock)
        self._copy = KeptCopy()

    async def put(self, name: str, data: bytes) -> None:
        self._copy.forget(name)
        put = partial(obstore.put_async, self._store, check_name(name), data, use_multipart=False)
        await self._insist(name, put)

    async def create(self, name: str, data: bytes) -> bool:
        path, token = check_name(name), secrets.token_hex(16)

        async def create() -> bool:
            try:
                await obstore.put_async(
                    self._store, path, data, mode="create", attributes={MAKER: token}
                )
            except AlreadyExistsError:
                # It may be our own, of a try of which no answer came.
                found = await obstore.get_async(self._store, path, options={"head": True})
                return found.attributes.get(MAKER) == token
            return True

        return await self._insist(name, create)

    @contextlib.asynccontextmanager
    async def upload(self, name: str) -> AsyncGenerator[ObjectUpload, None]:
        self._copy.forget(name)
        upload = ObjectUpload(
            self._store, self._uploads, check_name(name), self._clock, self._outage
        )
        try:
            yield upload
        finally:
            await upload.aclose()

    async def list(self, prefix: str) -> list[StoredObject]:
        top = check_name(prefix.rstrip("/"))

        async def collect() -> list[StoredObject]:
            pages = _list(self._store, top, chunk_size=_LISTED_AT_ONCE)
            return [StoredObject(o["path"], o["size"]) async for page in pages for o in page]

        return sorted(await self._insist(prefix, collect))

    async def folders(self, prefix: str) -> list[str]:
        top = check_name(prefix.rstrip("/"))
        found = await self._insist(prefix, lambda: _list_folder(self._store, top))
        return sorted(one.rstrip("/").rpartition("/")[2] for one in found["common_prefixes"])

    async def size(self, name: str) -> int:
        path = check_name(name)
        return (await self._insist(name, lambda: obstore.head_async(self._store, path)))["size"]

    async def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join([piece async for piece in self.stream(name, start, end)])

    async def stream(
        self, name: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        path = check_name(name)
        if end is not None and end <= start:
            await self.size(name)
            return
        insisting = Insisting(_PATIENCE, self._clock, self._outage)
        body: _Body | None = None
        while body is None or start < body.end:
            try:
                body = await _Body.begin(self._store, path, start, end, body)
                insisting.worked()
                async for piece in body.pieces:
                    start += len(piece)
                    yield piece
                    # From here on it would be a part of a whole download that is lost.
                    insisting = Insisting(LONG_PATIENCE, self._clock, self._outage)
                trouble = _CUT_OFF
            except STORE_ERRORS as error:
                trouble = trouble_of(error)
                if trouble.is_beyond_the_end and body is None:
                    return
            if (body is None or start < body.end) and not await insisting.after(trouble):
                raise trouble.of(name)

    async def delete(self, *names: str) -> None:
        paths = [check_name(name) for name in names]
        self._copy.forget(*names)
        for begin in range(0, len(paths), _DELETED_AT_ONCE):
            await self._delete(paths[begin : begin + _DELETED_AT_ONCE])

    async def _delete(self, paths: Sequence[str]) -> None:
        try:
            await self._insist(paths[0], lambda: obstore.delete_async(self._store, paths))
        except NotStoredError:
            # Some stores say so of one, and leave the others.
            for path in paths if len(paths) > 1 else ():
                await self._delete([path])

    async def open_local(self, name: str, start: int = 0, end: int | None = None) -> int:
        if (kept := self._copy.find(check_name(name))) is not None:
            return kept
        try:
            with await asyncio.to_thread(tempfile.TemporaryFile, dir=self._scratch) as copy:
                # What is before it stays a hole, which takes no room.
                copy.seek(start)
                async with contextlib.aclosing(self.stream(name, start, end)) as pieces:
                    async for piece in pieces:
                        await asyncio.to_thread(copy.write, piece)
                await asyncio.to_thread(copy.flush)
                # Who looks at the whole of an input will want its parts.
                if not start and end is None:
                    self._copy.keep(name, copy.fileno())
                return os.dup(copy.fileno())
        except OSError as error:
            kind = StorageFullError if error.errno in NO_ROOM else StorageError
            raise kind(f"{name} cannot be copied to this machine: {error.strerror}") from error

    async def clear(self) -> None:
        if self._unfinished is not None:
            await self._unfinished.end_abandoned()

    async def check(self) -> None:
        """Write an object, read it, list it and delete it. Raises StorageError that says of what
        is not allowed, or does not work, how it would."""
        name, data = f"{_PROBES}/{secrets.token_hex(8)}", secrets.token_bytes(16)
        steps: Sequence[tuple[str, Callable[[], Awaitable[object]]]] = (
            ("written to", lambda: self.put(name, data)),
            ("read from", lambda: self.read(name)),
            ("listed", lambda: self.list(f"{_PROBES}/")),
            ("deleted from", lambda: self.delete(name)),
        )
        for what, step in steps:
            try:
                answer = await step()
            except StorageError as error:
                problem = str(error).partition(": ")[2] or str(error)
                raise type(error)(f"cannot be {what}: {problem}") from error
            if what == "read from" and answer != data:
                raise StorageError(
                    "cannot be read from: what was written there is not what is read"
                )

    async def aclose(self) -> None:
        self._copy.drop()

    async def _insist(self, name: str, action: Callable[[], Awaitable[_Result]]) -> _Result:
        return await Insisting(_PATIENCE, self._clock, self._outage).result_of(action, name)


class _Body(NamedTuple):
    """An answer that is being read, up to `end` of the object whose version `etag` names."""

    pieces: BytesStream
    end: int
    etag: str | None

    @classmethod
    async def begin(
        cls, store: ObjectStore, path: str, start: int, end: int | None, before: _Body | None
    ) -> _Body:
        """From `start`; with `before` the rest of what that has begun, and of nothing else."""
        options: GetOptions = {}
        if before is not None:
            end = before.end
            if before.etag is not None:
                options["if_match"] = before.etag
        if end is not None:
            options["range"] = (start, end)
        elif start:
            options["range"] = {"offset": start}
        found = await obstore.get_async(store, path, options=options)
        size = found.meta["size"]
        last = size if end is None else min(end, size)
        return cls(found.stream(min_chunk_size=READ_BYTES), last, found.meta["e_tag"])
