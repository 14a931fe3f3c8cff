"""The picker as a gRPC server, on grpcio."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from batch_gateway.simulator.picker.admission import Admission
from batch_gateway.simulator.picker.chooser import Pod, PodChooser
from batch_gateway.simulator.picker.config import PickerConfig
from batch_gateway.simulator.picker.conversation import Conversation
from batch_gateway.simulator.picker.decisions import Decisions
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest, ProcessingResponse
from batch_gateway.wire.ext_proc.names import PROCESS_METHOD

if TYPE_CHECKING:
    from grpc.aio import ServicerContext

__all__ = ["PickerServer"]


class PickerServer:
    """Serves one picker until it is stopped; it may be started again on the same port.

    Attributes:
        port: where it listens; 0 before the first start unless one was asked for.
    """

    def __init__(
        self,
        config: PickerConfig,
        pods: Sequence[Pod],
        objectives: Mapping[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.config = config
        self.objectives = objectives
        self.chooser = PodChooser(config, pods)
        self.admission = Admission(config, self.chooser)
        self.decisions = Decisions(config.decisions_limit)
        self.port = port
        self._host = host
        self._server: grpc.aio.Server | None = None

    def configure(self, config: PickerConfig) -> None:
        """Take over changed settings; they hold for requests from now on."""
        self.config = config
        self.chooser.config = config
        self.admission.configure(config)
        self.decisions.resize(config.decisions_limit)

    async def start(self) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        self.admission.open()
        if self._server is not None:
            return
        _require_free(self._host, self.port)
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((self._handlers(),))
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"{host}:{self.port}"
        try:
            self.port = server.add_insecure_port(address)
        except RuntimeError as error:
            await server.stop(None)
            raise OSError(f"cannot listen on {address}") from error
        await server.start()
        self._server = server

    def drain(self) -> None:
        """Refuse what waits and what comes, until the next `start`; what is under way goes on."""
        self.admission.drain()

    async def stop(self) -> None:
        """Break every stream off and stop listening. The decisions stay readable."""
        server, self._server = self._server, None
        if server is not None:
            self.admission.drain()
            await server.stop(None)

    def _handlers(self) -> grpc.GenericRpcHandler:
        service, _, method = PROCESS_METHOD.lstrip("/").partition("/")
        handler = grpc.stream_stream_rpc_method_handler(
            self._process,  # pyright: ignore[reportArgumentType] - aio handlers are coroutines
            request_deserializer=ProcessingRequest.FromString,
            response_serializer=ProcessingResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(service, {method: handler})

    async def _process(self, _: object, context: ServicerContext[Any, Any]) -> None:
        await Conversation(self, _GrpcStream(context)).run()


def _require_free(host: str, port: int) -> None:
    # grpcio writes the reason to stderr instead of raising it.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    socket.create_server((host, port), family=family).close()


class _GrpcStream:
    """A `MessageStream` on a call of grpcio."""

    def __init__(self, context: ServicerContext[Any, Any]) -> None:
        self._context = context

    async def read(self) -> ProcessingRequest | None:
        message = await self._context.read()
        return message if isinstance(message, ProcessingRequest) else None

    async def write(self, message: ProcessingResponse) -> None:
        await self._context.write(message)
