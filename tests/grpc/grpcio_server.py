"""A gRPC server of grpcio, which is what most of the world's servers share their code with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from tests.grpcio_loop import in_grpcio_loop

ECHO = "/test.Service/Echo"
ONCE = "/test.Service/Once"
SINK = "/test.Service/Sink"
SILENT = "/test.Service/Silent"
FLOOD = "/test.Service/Flood"
REFUSE = "/test.Service/Refuse"


class GrpcioServer:
    """Echoes, floods, stays silent or refuses, by method. Lives in grpcio's own event loop.

    Attributes:
        running: how many streaming calls are under way.
        begun: how many calls there have been.
        metadata: of the last call.
        time_left: of the last call, in seconds.
    """

    def __init__(self, options: tuple[tuple[str, Any], ...] = ()) -> None:
        self._options = options
        self.running = 0
        self.begun = 0
        self.metadata: list[tuple[str, str | bytes]] = []
        self.time_left: float | None = None

    async def start(self, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen; the port."""
        return await in_grpcio_loop(self._start(credentials))

    async def stop(self, grace: float | None = None) -> None:
        await in_grpcio_loop(self._server.stop(grace))

    async def _start(self, credentials: grpc.ServerCredentials | None) -> int:
        server = self._server = grpc.aio.server(options=self._options)
        streaming = {
            "Echo": self._echo,
            "Sink": self._sink,
            "Silent": self._silent,
            "Flood": self._flood,
            "Refuse": self._refuse,
        }
        handlers = {
            name: grpc.stream_stream_rpc_method_handler(method)
            for name, method in streaming.items()
        }
        handlers["Once"] = grpc.unary_unary_rpc_method_handler(self._once)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("test.Service", handlers),)
        )
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        await server.start()
        return port

    def _note(self, context: Any) -> None:
        self.begun += 1
        self.metadata = list(context.invocation_metadata())
        self.time_left = context.time_remaining()

    async def _echo(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        self.running += 1
        try:
            async for message in requests:
                yield message
        finally:
            self.running -= 1

    async def _sink(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        total = 0
        async for message in requests:
            total += len(message)
        yield str(total).encode()

    async def _silent(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        self.running += 1
        try:
            async for _ in requests:
                pass
            await context.abort(grpc.StatusCode.INTERNAL, "nobody waited for this")
            yield b""
        finally:
            self.running -= 1

    async def _flood(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        async for message in requests:
            for _ in range(100):
                yield message

    async def _refuse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        self._note(context)
        async for message in requests:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message.decode())
            yield b""

    async def _once(self, request: bytes, context: Any) -> bytes:
        self._note(context)
        return request[::-1]
