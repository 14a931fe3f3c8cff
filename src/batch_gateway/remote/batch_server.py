"""A server of `/v1/files` and `/v1/batches`, asked over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import msgspec

from batch_gateway.durations import format_duration
from batch_gateway.engine.source import Source
from batch_gateway.errors import BadResponseError, InferenceError, RequestTimeoutError
from batch_gateway.http.exchange import HTTPResponse, HTTPStream
from batch_gateway.http.method_heads import exchanger_by_method
from batch_gateway.http.response_errors import refusal_error
from batch_gateway.http.sent_secrets import redactor_of
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.http.upload import Body
from batch_gateway.remote.file_form import FileForm
from batch_gateway.remote.remote_batch import RemoteBatch, RemoteFile, RemotePage

__all__ = ["BatchServer"]

T = TypeVar("T")

_NEVER = float("inf")
_ANSWER_SECONDS = 60.0
# A server that keeps files elsewhere may answer long after it has read the last byte.
_UPLOAD_STALL_SECONDS = 300.0
_DOWNLOAD_STALL_SECONDS = 60.0
_MOST_LISTED = 100
_MOST_OF_A_REFUSAL = 64 * 1024


class BatchServer:
    """Every method raises InferenceError in the words of whatever went wrong; none tries again.

    Raises ConfigError when the key, a certificate or the proxy cannot be used. An asynchronous
    context manager, for one event loop.

    Attributes:
        url: of the server, for messages.
    """

    def __init__(self, config: TransportConfig) -> None:
        self._exchanger = exchanger_by_method(config)
        self._redact = redactor_of(config)
        self._peer = Target.of(config).name
        self.url = config.base_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._exchanger.aclose()

    async def upload(
        self, source: Source, filename: str, on_sent: Callable[[int, int], None]
    ) -> RemoteFile:
        """Send a file, however long it takes: only one that stands still is given up.

        `on_sent` is told (bytes sent, bytes in all). Raises InputError when the source changed
        meanwhile or cannot be read.
        """
        stands_still = asyncio.timeout(_UPLOAD_STALL_SECONDS)
        loop = asyncio.get_running_loop()

        def moved(sent: int, total: int) -> None:
            stands_still.reschedule(loop.time() + _UPLOAD_STALL_SECONDS)
            on_sent(sent, total)

        form = FileForm(source, filename, moved)
        headers = (("Content-Type", form.content_type),)
        try:
            async with stands_still:
                response = await self._ask("POST /v1/files", form, headers, within=_NEVER)
        except TimeoutError as error:
            if isinstance(error, InferenceError):
                raise
            limit = format_duration(_UPLOAD_STALL_SECONDS)
            raise RequestTimeoutError(
                f"{self._peer}: the upload stood still for {limit}"
            ) from error
        if form.problem is not None:
            raise form.problem
        return self._decoded(response, RemoteFile, "a file")

    async def create(self, wanted: Mapping[str, Any]) -> RemoteBatch:
        """A new batch; `wanted` is the body of the request."""
        response = await self._ask("POST /v1/batches", msgspec.json.encode(wanted))
        return self._decoded(response, RemoteBatch, "a batch")

    async def batch(self, batch_id: str) -> tuple[RemoteBatch, bytes]:
        """How a batch stands, and the JSON that said it."""
        response = await self._ask(f"GET /v1/batches/{quote(batch_id, safe='')}")
        return self._decoded(response, RemoteBatch, "a batch"), response.body

    async def cancel(self, batch_id: str) -> RemoteBatch:
        """How it stands then, which need not be its end yet."""
        response = await self._ask(f"POST /v1/batches/{quote(batch_id, safe='')}/cancel")
        return self._decoded(response, RemoteBatch, "a batch")

    async def batches(self, limit: int) -> AsyncIterator[tuple[RemoteBatch, bytes]]:
        """The newest `limit` batches, newest first, as `batch` gives them."""
        after = ""
        while limit > 0:
            query = f"?limit={min(limit, _MOST_LISTED)}" + (after and f"&after={after}")
            response = await self._ask(f"GET /v1/batches{query}")
            page = self._decoded(response, RemotePage, "a list of batches")
            last = after
            for text in page.data[:limit]:
                batch = self._decoded(response, RemoteBatch, "a list of batches", text)
                after = quote(batch.id, safe="")
                yield batch, bytes(text)
            limit -= len(page.data)
            # One that is asked for what comes after its last and gives the same again has no pages.
            if not page.has_more or not page.data or after == last:
                return

    @contextlib.asynccontextmanager
    async def content(self, file_id: str, start: int) -> AsyncGenerator[HTTPStream]:
        """The bytes of a file: all of them with status 200, or with a `start` perhaps those from
        there on (206), or none (416).
        """
        path = f"GET /v1/files/{quote(file_id, safe='')}/content"
        headers = [("Accept", "*/*"), *([("Range", f"bytes={start}-")] if start else [])]
        async with self._exchanger.stream(
            path,
            headers,
            b"",
            deadline=_NEVER,
            begin_by=time.monotonic() + _ANSWER_SECONDS,
            idle_timeout=_DOWNLOAD_STALL_SECONDS,
        ) as stream:
            if stream.status_code not in ((200, 206, 416) if start else (200,)):
                await self._refuse(stream)
            if stream.headers.get("content-encoding", "identity") != "identity":
                raise BadResponseError(f"{self._peer} compressed a file, which nobody asked for")
            yield stream

    async def _refuse(self, stream: HTTPStream) -> None:
        body = b""
        while len(body) < _MOST_OF_A_REFUSAL and (piece := await stream.read()):
            body += piece
        response = HTTPResponse(stream.status_code, stream.headers, body)
        raise refusal_error(response, time.time(), self._redact)

    async def _ask(
        self,
        what: str,
        body: Body = b"",
        headers: Sequence[tuple[str, str]] = (),
        *,
        within: float = _ANSWER_SECONDS,
    ) -> HTTPResponse:
        deadline = time.monotonic() + within
        response = await self._exchanger.post(what, headers, body, deadline=deadline)
        if not 200 <= response.status_code <= 299:
            raise refusal_error(response, time.time(), self._redact)
        return response

    def _decoded(
        self,
        response: HTTPResponse,
        kind: type[T],
        what: str,
        text: bytes | msgspec.Raw | None = None,
    ) -> T:
        try:
            return msgspec.json.decode(response.body if text is None else text, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadResponseError(
                f"{self._peer} answered HTTP {response.status_code} with what is not {what}"
                f" ({str(error)[:120]})",
                status_code=response.status_code,
            ) from error
