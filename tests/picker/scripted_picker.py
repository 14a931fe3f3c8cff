"""An endpoint picker that does exactly what a test tells it: a script in its loop, on grpcio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from batch_gateway.wire.ext_proc.messages_pb2 import (
    CommonResponse,
    HealthCheckRequest,
    HealthCheckResponse,
    ProcessingRequest,
    ProcessingResponse,
)
from batch_gateway.wire.ext_proc.names import (
    DESTINATION,
    HEALTH_METHOD,
    LB_NAMESPACE,
    PROCESS_METHOD,
)
from tests.grpcio_loop import in_grpcio_loop

__all__ = ["Script", "ScriptedPicker", "Talk", "echoing", "scripted_picker"]

_CHUNK = 62_000


class Talk:
    """One stream, as the picker sees it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.heard: list[ProcessingRequest] = []
        self.body = b""

    async def read(self) -> ProcessingRequest | None:
        """The next message; None once the other side has half-closed."""
        message = await self.context.read()
        if not isinstance(message, ProcessingRequest):
            return None
        self.heard.append(message)
        return message

    async def say(self, **fields: Any) -> None:
        await self.context.write(ProcessingResponse(**fields))

    async def question(self) -> dict[str, str]:
        """Read until the body has ended; the headers by name. The body is in `body`."""
        headers: dict[str, str] = {}
        while message := await self.read():
            if message.HasField("request_headers"):
                for header in message.request_headers.headers.headers:
                    headers[header.key] = header.raw_value.decode()
            else:
                self.body += message.request_body.body
                if message.request_body.end_of_stream:
                    return headers
        raise AssertionError("the question was not finished")

    async def choose(
        self,
        endpoints: str,
        *,
        set_headers: Mapping[str, str] | None = None,
        remove_headers: Sequence[str] = (),
        metadata: bool = True,
        header: bool = True,
        value_field: str = "raw_value",
    ) -> None:
        options = dict(set_headers or {}) | ({DESTINATION: endpoints} if header else {})
        common = CommonResponse()
        for name, value in options.items():
            option = common.header_mutation.set_headers.add()
            option.header.key = name
            setattr(option.header, value_field, value.encode() if value_field[0] == "r" else value)
        common.header_mutation.remove_headers.extend(remove_headers)
        response = ProcessingResponse()
        response.request_headers.response.CopyFrom(common)
        if metadata:
            response.dynamic_metadata.update({LB_NAMESPACE: {DESTINATION: endpoints}})
        await self.context.write(response)

    async def pass_to(self, endpoint: str) -> None:
        """Hear the question out, choose `endpoint`, and send the body on as it came."""
        await self.question()
        await self.choose(endpoint)
        await self.send_body(self.body)

    async def send_body(self, body: bytes, kind: str = "request_body") -> None:
        """As GAIE's pickers do: in pieces of 62,000 bytes, the last of which ends it."""
        starts = range(0, max(1, len(body)), _CHUNK)
        for start in starts:
            streamed = {
                "body": body[start : start + _CHUNK],
                "end_of_stream": start == starts[-1],
            }
            await self.say(
                **{kind: {"response": {"body_mutation": {"streamed_response": streamed}}}}
            )

    async def refuse(self, status: int, reason: str = "", body: bytes = b"") -> None:
        headers = [
            {"header": {"key": "x-llm-d-request-dropped-reason", "raw_value": reason.encode()}}
        ]
        mutation = {"set_headers": headers} if reason else {}
        await self.say(
            immediate_response={"status": {"code": status}, "headers": mutation, "body": body}
        )

    async def echo(self, *, rewrite: Callable[[bytes], bytes] = bytes) -> bytes:
        """Hand back what is reported, as it comes; all of it is returned."""
        whole = b""
        while message := await self.read():
            if message.HasField("response_headers"):
                await self.say(response_headers={})
                continue
            piece = message.response_body
            whole += piece.body
            streamed = {"body": rewrite(piece.body), "end_of_stream": piece.end_of_stream}
            await self.say(
                response_body={"response": {"body_mutation": {"streamed_response": streamed}}}
            )
        return whole


Script = Callable[[Talk], Awaitable[None]]


class ScriptedPicker:
    """A running picker. `talks` are the streams so far, `ends` how each was left."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.port = 0
        self.talks: list[Talk] = []
        self.ends: list[str] = []
        self.open = 0
        self.health: dict[str, int] | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"grpc://127.0.0.1:{self.port}"

    async def all_ended(self) -> None:
        """Wait until no stream is open."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.open == 0)

    async def process(self, context: Any) -> None:
        talk = Talk(context)
        self.talks.append(talk)
        self.open += 1
        end = "ended"
        try:
            await self.script(talk)
            if context.cancelled():
                end = "cancelled"
        except asyncio.CancelledError:
            end = "cancelled"
            raise
        finally:
            self.ends.append(end)
            self.open -= 1
            async with self._changed:
                self._changed.notify_all()

    async def check(self, request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
        assert self.health is not None
        if request.service not in self.health:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return HealthCheckResponse(status=self.health[request.service])  # pyright: ignore[reportArgumentType]


@asynccontextmanager
async def scripted_picker(
    script: Script, *, health: dict[str, int] | None = None, options: Sequence[Any] = ()
) -> AsyncIterator[ScriptedPicker]:
    """Run `script` for every stream. `health`: a status by service, or no health service."""
    picker = ScriptedPicker(script)
    picker.health = health
    server = await in_grpcio_loop(_serve(picker, asyncio.get_running_loop(), options))
    try:
        yield picker
    finally:
        await in_grpcio_loop(server.stop(None))


async def _serve(
    picker: ScriptedPicker, loop: asyncio.AbstractEventLoop, options: Sequence[Any]
) -> Any:
    async def process(_: object, context: Any) -> None:
        script = picker.process(_ContextElsewhere(context))
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(script, loop))

    server = grpc.aio.server(options=list(options))
    handler = grpc.stream_stream_rpc_method_handler(
        process,  # pyright: ignore[reportArgumentType]
        request_deserializer=ProcessingRequest.FromString,
        response_serializer=ProcessingResponse.SerializeToString,
    )
    handlers: dict[str, Any] = {PROCESS_METHOD: handler}
    if picker.health is not None:
        handlers[HEALTH_METHOD] = grpc.unary_unary_rpc_method_handler(
            picker.check,  # pyright: ignore[reportArgumentType]
            request_deserializer=HealthCheckRequest.FromString,
            response_serializer=HealthCheckResponse.SerializeToString,
        )
    for path, made in handlers.items():
        service, _, method = path.lstrip("/").partition("/")
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: made}),)
        )
    picker.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server


class _ContextElsewhere:
    """A call's context for a script that runs in the test's own loop."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def read(self) -> object:
        return await in_grpcio_loop(self._context.read())

    async def write(self, message: ProcessingResponse) -> None:
        await in_grpcio_loop(self._context.write(message))

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        await in_grpcio_loop(self._context.abort(code, details))

    def cancelled(self) -> bool:
        return self._context.cancelled()


def echoing(endpoints: str, **choice: Any) -> Script:
    """The usual conversation: choose, send the body on as it is, hand back the answer."""

    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.choose(endpoints, **choice)
        await talk.send_body(talk.body)
        await talk.echo()

    return script
