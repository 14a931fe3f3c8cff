"""`/v1/batches`: making, listing, looking at and cancelling batches."""

from __future__ import annotations

import re
from functools import partial

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import Response

from batch_gateway.server.api_errors import ApiError, json_response
from batch_gateway.server.api_state import ApiState
from batch_gateway.server.batch_request import MOST_BODY_BYTES, BatchRequest, parse_batch_request
from batch_gateway.server.body_reader import read_body
from batch_gateway.server.list_query import parse_paging
from batch_gateway.server.objects import batch_object, list_object
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.batch_records import (
    BatchRecord,
    NoSuchBatchError,
    RefusedEventError,
    add_batch,
    batches_under_way,
    find_batch,
    poll_batch,
    read_batches,
    record_event,
)
from batch_gateway.service.database import in_turn
from batch_gateway.service.file_records import find_file
from batch_gateway.service.ids import new_id
from batch_gateway.service.statuses import SHOWN, BatchEvent, BatchStatus

__all__ = ["BatchRoutes", "find_own_batch"]

_MOST_LISTED = 100
_BATCH_ID = re.compile(r"batch_[0-9A-Za-z-]{1,64}", re.ASCII)


class BatchRoutes:
    """The handlers, each of which answers one route. They raise ApiError."""

    def __init__(self, state: ApiState) -> None:
        self._state = state

    async def create(self, request: Request) -> Response:
        state = self._state
        tenant = await state.tenant(request)
        body = await read_body(request, MOST_BODY_BYTES, seconds=float(state.config.stall_timeout))
        asked = parse_batch_request(body, state.config)
        batch = self._record(tenant, asked, self._sealed_headers(request))
        await state.database.write(partial(_add_if_allowed, batch=batch, config=state.config))
        state.on_batch_added(batch.id)
        return json_response(batch_object(batch))

    def _record(self, tenant: str, asked: BatchRequest, headers: bytes | None) -> BatchRecord:
        now = self._state.now()
        due = now + asked.window_seconds
        return BatchRecord(
            id=new_id("batch", now),
            tenant=tenant,
            status=BatchStatus.VALIDATING.value,
            endpoint=asked.endpoint,
            input_file_id=asked.input_file_id,
            completion_window=asked.completion_window,
            due_at=due,
            created_at=int(now),
            expires_at=int(due),
            metadata=asked.metadata,
            headers=headers,
            output_seconds=asked.output_seconds,
        )

    def _sealed_headers(self, request: Request) -> bytes | None:
        if self._state.seal is None:
            return None
        passed = {
            name: values[-1]
            for name in self._state.config.pass_through_headers
            if (values := request.headers.getlist(name))
        }
        return self._state.seal.seal(passed) if passed else None

    async def list(self, request: Request) -> Response:
        tenant = await self._state.tenant(request)
        paging = parse_paging(request.query_params, _MOST_LISTED)
        page = await read_batches(self._state.database, tenant, paging)
        return json_response(list_object(page, batch_object, no_id=None))

    async def retrieve(self, request: Request) -> Response:
        return json_response(batch_object(await find_own_batch(self._state, request)))

    async def cancel(self, request: Request) -> Response:
        state = self._state
        tenant = await state.tenant(request)
        cancelling = partial(_cancel, batch_id=_batch_id(request), tenant=tenant, now=state.now())
        try:
            batch, is_news = await state.database.write(cancelling)
        except NoSuchBatchError as error:
            raise ApiError(404, str(error)) from error
        except RefusedEventError as error:
            shown = SHOWN[error.status]
            raise ApiError(400, f"Batch with status {shown} cannot be cancelled") from error
        if is_news:
            state.on_batch_cancelled(batch)
        return json_response(batch_object(batch))


async def find_own_batch(state: ApiState, request: Request) -> BatchRecord:
    """The batch that the path names, of the tenant who asks. Raises ApiError."""
    tenant = await state.tenant(request)
    try:
        return await poll_batch(state.database, tenant, _batch_id(request))
    except NoSuchBatchError as error:
        raise ApiError(404, str(error)) from error


def _batch_id(request: Request) -> str:
    batch_id: str = request.path_params["batch_id"]
    if not _BATCH_ID.fullmatch(batch_id):
        raise ApiError(404, f"Batch with ID {batch_id} not found")
    return batch_id


def _cancel(
    connection: Connection, batch_id: str, tenant: str, now: float
) -> tuple[BatchRecord, bool]:
    """The batch, and whether it was not being cancelled, or ended otherwise, before."""
    before = find_batch(connection, batch_id, tenant, lock=True)
    batch = record_event(connection, batch_id, BatchEvent.CANCEL, now, tenant=tenant)
    return batch, batch.status != before.status


def _add_if_allowed(connection: Connection, batch: BatchRecord, config: ServerConfig) -> None:
    # Nobody deletes it before the batch is there that needs it.
    file = find_file(connection, batch.tenant, batch.input_file_id, batch.created_at, lock=True)
    if file is None:
        raise ApiError(400, f"Input file with ID '{batch.input_file_id}' not found")
    if file.purpose != "batch":
        raise ApiError(
            400,
            f"Input file '{file.id}' has purpose '{file.purpose}', but must have purpose 'batch'",
        )
    if config.max_batches is not None:
        _check_number(connection, batch.tenant, config.max_batches)
    add_batch(connection, batch)


def _check_number(connection: Connection, tenant: str, most: int) -> None:
    in_turn(connection, f"batches of {tenant}")
    if batches_under_way(connection, tenant) >= most:
        raise ApiError(
            429, f"There are {most} batches under way, the most that are allowed: wait for one"
        )
