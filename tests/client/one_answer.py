"""A client whose gateway gives the same response to everything, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from batch_gateway import HTTPInferenceClientConfig, InferenceError, InferenceRequest
from batch_gateway.client.client import build_stack
from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.prepare import prepare
from batch_gateway.clock import SYSTEM_CLOCK
from batch_gateway.http.exchange import HTTPResponse, HTTPStream

__all__ = ["OneAnswer", "failure"]


class OneAnswer:
    """An exchanger whose gateway gives the same response to everything."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status_code, self.headers = response.status_code, response.headers
        self._response = response
        self._left = [response.body]

    async def post(self, *_: Any, **__: Any) -> HTTPResponse:
        return self._response

    @asynccontextmanager
    async def stream(self, *_: Any, **__: Any) -> AsyncGenerator[HTTPStream]:
        yield self

    async def read(self) -> bytes:
        return self._left.pop() if self._left else b""

    async def connect(self, *, deadline: float) -> None: ...

    async def aclose(self) -> None: ...


def failure(
    response: HTTPResponse,
    *,
    own_headers: dict[str, str] | None = None,
    **settings: Any,
) -> InferenceError:
    """What a client raises for a response to a request with headers of its own."""
    config = HTTPInferenceClientConfig("http://gateway", retry=None, **settings)
    stack = build_stack(config, OneAnswer(response), SYSTEM_CLOCK, GatewayEvents("g"))
    request = InferenceRequest(params={"model": "m", "messages": []}, headers=own_headers or {})
    with pytest.raises(InferenceError) as caught:
        asyncio.run(stack.send(prepare(request, SYSTEM_CLOCK)))
    return caught.value
