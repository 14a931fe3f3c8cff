"""`/v1/files`: uploads, lists, look-ups, contents, deletions."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from batch_gateway.errors import StorageError
from batch_gateway.server.api_errors import ApiError, json_response
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.body_reader import stream_body
from batch_gateway.server.download import (
    Download,
    Span,
    content_disposition,
    is_known,
    requested_span,
    require_wanted,
)
from batch_gateway.server.list_query import parse_paging
from batch_gateway.server.objects import deleted_file, file_object, list_object
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.server.upload_form import UploadForm, boundary_of
from batch_gateway.service.database import in_turn
from batch_gateway.service.file_records import (
    FileRecord,
    FileState,
    add_file,
    find_file,
    list_files,
    mark_deleted,
    mark_stored,
    object_name,
    remove_file,
    tenant_use,
)
from batch_gateway.service.ids import new_id
from batch_gateway.service.leftover_files import remove_leftovers
from batch_gateway.storage.protocol import Upload

__all__ = ["FileRoutes"]

_MOST_LISTED = 10_000
# What the form around a file may take of a Content-Length.
_FORM_BYTES = 1024 * 1024
_FILE_ID = re.compile(r"file_[0-9A-Za-z-]{1,64}", re.ASCII)


class FileRoutes:
    """The handlers, each of which answers one route. They raise ApiError."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def create(self, request: Request) -> Response:
        state, config = self._state, self._state.config
        tenant = await state.tenant(request)
        boundary = boundary_of(request.headers.get("content-type", ""))
        _check_length(request, config)
        await state.database.read(partial(_check_use, tenant=tenant, config=config, more_bytes=0))
        form = UploadForm(boundary, config.file_bytes, config.max_file_lines)
        body = stream_body(
            request,
            stall_seconds=float(config.stall_timeout),
            whole_seconds=float(config.read_timeout),
        )
        file_id = new_id("file", state.now())
        async with AsyncExitStack() as stack:
            upload = await stack.enter_async_context(state.storage.upload(object_name(file_id)))
            await _fill(upload, form, body)
            purpose, seconds = form.finish()
            file = self._record(file_id, tenant, form, purpose, seconds)
            await self._keep(file, upload)
        return json_response(file_object(file))

    def _record(
        self, file_id: str, tenant: str, form: UploadForm, purpose: str, seconds: int | None
    ) -> FileRecord:
        now = int(self._state.now())
        lifetime = self._state.config.file_lifetime
        kept = seconds if lifetime is None or seconds is not None else int(float(lifetime))
        return FileRecord(
            id=file_id,
            tenant=tenant,
            filename=form.filename or "",
            purpose=purpose,
            bytes=form.size,
            created_at=now,
            expires_at=None if kept is None else now + kept,
            status="uploaded",
        )

    async def _keep(self, file: FileRecord, upload: Upload) -> None:
        """The record is first, and pending: whatever happens between the two, one of them finds
        the other."""
        database = self._state.database
        await database.write(partial(_add_if_allowed, file=file, config=self._state.config))
        try:
            await upload.commit()
        except StorageError:
            await database.write(partial(remove_file, file_id=file.id))
            raise
        await database.write(partial(mark_stored, file_id=file.id))

    async def list(self, request: Request) -> Response:
        tenant = await self._state.tenant(request)
        paging = parse_paging(request.query_params, _MOST_LISTED)
        purpose = request.query_params.get("purpose") or None
        page = await self._state.database.read(
            partial(
                list_files, tenant=tenant, paging=paging, now=self._state.now(), purpose=purpose
            )
        )
        return json_response(list_object(page, file_object, no_id=""))

    async def retrieve(self, request: Request) -> Response:
        return json_response(file_object(await self._find(request)))

    async def delete(self, request: Request) -> Response:
        state = self._state
        tenant = await state.tenant(request)
        file_id = request.path_params["file_id"]
        marked = _FILE_ID.fullmatch(file_id) and await state.database.write(
            partial(mark_deleted, tenant=tenant, file_id=file_id, now=state.now())
        )
        if not marked:
            raise _not_found(file_id)
        # The tenant has lost sight of it already: if its bytes resist, they are cleared away later.
        with contextlib.suppress(StorageError):
            await remove_leftovers(state.database, state.storage, state.now(), only=file_id)
        return json_response(deleted_file(file_id))

    async def content(self, request: Request) -> ASGIApp:
        file = await self._find(request)
        etag = f'"{file.id}"'
        headers = {"etag": etag, "accept-ranges": "bytes", "cache-control": "private"}
        require_wanted(request.headers, etag)
        if is_known(request.headers, etag):
            return Response(status_code=304, headers=headers)
        span = requested_span(request.headers, file.bytes, etag)
        if span is not None:
            headers["content-range"] = f"bytes {span.start}-{span.end - 1}/{file.bytes}"
        start, end = span or Span(0, file.bytes)
        headers |= {
            "content-type": "application/octet-stream",
            "content-length": str(end - start),
            "content-disposition": content_disposition(file.filename),
        }
        return Download(
            self._state.storage.stream(object_name(file.id), start, end),
            200 if span is None else 206,
            headers,
            stall_seconds=float(self._state.config.write_stall_timeout),
        )

    async def _find(self, request: Request) -> FileRecord:
        tenant = await self._state.tenant(request)
        file_id: str = request.path_params["file_id"]
        file = None
        if _FILE_ID.fullmatch(file_id):
            look = partial(find_file, tenant=tenant, file_id=file_id, now=self._state.now())
            file = await self._state.database.read(look)
        if file is None:
            raise _not_found(file_id)
        return file


async def _fill(upload: Upload, form: UploadForm, body: AsyncIterator[bytes]) -> None:
    async for piece in body:
        data = form.feed(piece)
        if data:
            await upload.append(data)


def _check_length(request: Request, config: ServerConfig) -> None:
    """An upload that says itself that it is too large need not be read."""
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > config.file_bytes + _FORM_BYTES:
        raise ApiError(
            400, f"File size exceeds the maximum allowed size of {config.file_bytes} bytes"
        )


def _add_if_allowed(connection: Connection, file: FileRecord, config: ServerConfig) -> None:
    _check_use(connection, file.tenant, config, file.bytes)
    add_file(connection, file, FileState.PENDING)


def _check_use(connection: Connection, tenant: str, config: ServerConfig, more_bytes: int) -> None:
    if config.max_files is None and config.max_bytes is None:
        return
    in_turn(connection, f"files of {tenant}")
    use = tenant_use(connection, tenant)
    if config.max_files is not None and use.files >= config.max_files:
        raise ApiError(
            403, f"There are {use.files} files, the most that are allowed: delete some first"
        )
    most = config.max_bytes
    if isinstance(most, int) and use.bytes + more_bytes > most:
        raise ApiError(
            403,
            f"The files would exceed the {most} bytes that are allowed in all: delete some first",
        )


def _not_found(file_id: str) -> ApiError:
    return ApiError(404, f"File with ID {file_id} not found")
