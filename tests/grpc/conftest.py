"""Both event loops, and servers and channels that end with the test."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.grpc.channel import Http2Channel
from batch_gateway.http.base_url import ApiPath
from batch_gateway.http.target import Target
from tests.client.both_loops import BOTH_LOOPS, leaving_nothing
from tests.grpc.grpcio_server import GrpcioServer
from tests.http.native.raw_server import Script, Server


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


class Bench:
    """Starts servers and channels for one test, and ends them."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack

    async def grpcio(
        self, *options: tuple[str, Any], **settings: Any
    ) -> tuple[GrpcioServer, Http2Channel]:
        server = GrpcioServer(options)
        port = await server.start()
        self._stack.push_async_callback(server.stop)
        return server, self.channel(port, **settings)

    async def grpcio_tls(self, credentials: grpc.ServerCredentials) -> int:
        """The port of a server that speaks TLS."""
        server = GrpcioServer()
        port = await server.start(credentials)
        self._stack.push_async_callback(server.stop)
        return port

    async def raw(
        self, script: Script, *, ssl: ssl.SSLContext | None = None, **settings: Any
    ) -> tuple[Server, Http2Channel]:
        """A server that does what the script says, byte by byte."""
        server = Server(script)
        await server.start(ssl=ssl)
        self._stack.push_async_callback(server.stop)
        return server, self.channel(server.port, **settings)

    def channel(self, port: int, host: str = "127.0.0.1", **settings: Any) -> Http2Channel:
        name = f"{host}:{port}"
        target = Target(
            host, port, settings.get("context") is not None, None, name, ApiPath(), name
        )
        return self._closing(Http2Channel(target, **settings))

    def channel_of(self, url: str, **settings: Any) -> Http2Channel:
        """A channel as a configuration asks for it."""
        return self._closing(Http2Channel.of(HTTPInferenceClientConfig(url, **settings)))

    def _closing(self, channel: Http2Channel) -> Http2Channel:
        self._stack.push_async_callback(channel.aclose)
        return channel


@pytest.fixture
async def bench(anyio_backend: object) -> AsyncIterator[Bench]:
    async with leaving_nothing() as stack:
        yield Bench(stack)


def soon(seconds: float = 30.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds
