"""The body of a response read through aiohttp as it comes, each wait within its limit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp

from batch_gateway.client.http.aiohttp_errors import is_cut_refusal
from batch_gateway.client.http.connection_errors import closed_error, idle_error
from batch_gateway.errors import GatewayConnectionError, InferenceError, RequestTimeoutError
from batch_gateway.wire.headers import Headers

__all__ = ["AiohttpStream"]


class AiohttpStream:
    """An `HTTPStream` over a response of aiohttp, which stops reading from the socket by itself.

    `translate` turns what aiohttp raises into this package's errors; `deadline`, `begin_by` and
    `idle_timeout` are those of `HTTPExchanger.stream`.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        peer: str,
        translate: Callable[[Exception], InferenceError],
        *,
        deadline: float,
        begin_by: float,
        idle_timeout: float,
    ) -> None:
        self.status_code = response.status
        self.headers = Headers(response.raw_headers)
        self._response = response
        connection = response.connection
        self._protocol = None if connection is None else connection.protocol
        self._peer = peer
        self._translate = translate
        self._deadline = deadline
        self._begin_by = begin_by
        self._idle = idle_timeout
        self._begun = False
        self._closed = False
        self._timer: asyncio.Timeout | None = None

    def end_now(self) -> None:
        """The client is closed: whoever reads is told, now or with the next `read`."""
        self._closed = True
        if self._timer is not None and not self._timer.expired():
            self._timer.reschedule(0.0)

    async def read(self) -> bytes:
        if self._closed:
            raise closed_error()
        silent_until = time.monotonic() + self._idle if self._begun else self._begin_by
        ends = min(self._deadline, silent_until)
        left = None if ends == float("inf") else ends - time.monotonic()
        try:
            # The loop's clock need not be the one that deadlines are told in.
            async with asyncio.timeout(left) as self._timer:
                data = await self._response.content.readany()
        except TimeoutError as error:
            raise self._too_late(is_idle=self._begun and ends < self._deadline) from error
        except (aiohttp.ClientError, OSError) as error:
            if is_cut_refusal(self.status_code, error):
                return b""
            raise self._translate(error) from error
        finally:
            self._timer = None
        if data:
            self._begun = True
        elif self._protocol is not None:
            self._require_good_end(self._protocol.exception())
        return data

    def _too_late(self, *, is_idle: bool) -> InferenceError:
        if self._closed:
            return closed_error()
        if is_idle:
            return idle_error(self._peer, self._idle)
        return RequestTimeoutError(f"{self._peer} did not answer in time")

    def _require_good_end(self, lost: type[BaseException] | BaseException | None) -> None:
        """Without a length a body ends with its connection; aiohttp takes a reset for that end."""
        if isinstance(lost, aiohttp.ClientOSError):
            raise GatewayConnectionError(
                f"{self._peer} reset the connection during the response", cause=lost
            )
