"""Serving a form over a socket, asking for it, and telling in the docs' words what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
)
from batch_gateway.engine.signs import Sign, read_evidence
from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig
from tests.servers.form import TOKENS, Form

__all__ = ["Outcome", "drive"]

_CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
_REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", _CHAT),
    "completions": ("/v1/completions", {"prompt": "Hi"}),
    "responses": ("/v1/responses", {"input": "Hi"}),
    "embeddings": ("/v1/embeddings", {"input": "Hi"}),
}


_RECORDED = {
    Sign.OWN: "errors file",
    Sign.DOUBT: "errors file",
    Sign.LOAD: "errors file, if others get through",
    Sign.MODEL: "errors file, if the model ever answers",
    Sign.PLACE: "errors file, if others get through",
    Sign.KEY: "stays to be sent",
    Sign.USED_UP: "stays to be sent",
    Sign.UNREACHED: "stays to be sent",
}


class Outcome:
    """How a request ended: `answer` or `error`."""

    def __init__(
        self, answer: str = "", tokens: int | None = None, error: InferenceError | None = None
    ):
        self.answer = answer
        self.tokens = tokens
        self.error = error

    @property
    def words(self) -> str:
        """What is said to the user."""
        return self.answer if self.error is None else f"{self.error.code} {self.error.message}"

    def __str__(self) -> str:
        """As `Form.becomes` has it."""
        error = self.error
        if error is None:
            counted = {None: "", TOKENS: ", its tokens counted"}
            return "an answer" + counted.get(self.tokens, f", {self.tokens} tokens counted")
        status = "" if error.status_code is None else f" {error.status_code}"
        wait = "" if error.retry_after is None else f" after {error.retry_after:g} s"
        return f"`{error.category}`{status}, " + (
            f"retried{wait}" if error.is_retryable else "final"
        )

    @property
    def recorded(self) -> str:
        """Where the line of a run goes, its retries being spent."""
        if self.error is None:
            return "results"
        return _RECORDED[read_evidence(self.error).sign]


async def drive(form: Form, fault: str = "") -> list[Outcome]:
    """The outcome of each way to ask for it. `fault`, of the simulator's, stands for no wire."""
    kind = form.asked.removeprefix("stream").strip() or "chat"
    path, params = _REQUESTS[kind]
    request = InferenceRequest(params={"model": "m", **params}, endpoint=path)
    streamed = form.asked.startswith("stream")
    if fault:
        request = InferenceRequest(
            params={"model": "m", **params}, endpoint=path, headers={"X-Simulate-Fault": fault}
        )
    async with _simulated() if fault else _serving(form.wire) as url:
        found = [await _generate(url, request, streamed=streamed)]
        if streamed:
            found.append(await _stream(url, request))
    return found


async def _generate(url: str, request: InferenceRequest, *, streamed: bool) -> Outcome:
    # Short where the simulator is asked to say nothing, long enough for a busy machine otherwise.
    limit = 0.2 if request.headers else 20.0
    config = HTTPInferenceClientConfig(
        url, retry=None, timeout=limit, stream_upstream=streamed, max_response_bytes=1_000_000
    )
    async with HTTPInferenceClient(config) as client:
        try:
            return _answered(await client.generate(request))
        except InferenceError as error:
            return Outcome(error=error)


async def _stream(url: str, request: InferenceRequest) -> Outcome:
    config = HTTPInferenceClientConfig(url, retry=None, timeout=20)
    async with HTTPInferenceClient(config) as client:
        stream = client.stream(request)
        try:
            async for _ in stream:
                pass
            assert stream.response is not None
            return _answered(stream.response)
        except InferenceError as error:
            return Outcome(error=error)


def _answered(response: InferenceResponse) -> Outcome:
    usage = response.usage
    tokens = None if usage is None else usage.output_tokens
    return Outcome(response.body.decode(), tokens)


@asynccontextmanager
async def _simulated() -> AsyncIterator[str]:
    async with SimulatedGateway(SimulatorConfig.instant()) as gateway:
        yield gateway.url


@asynccontextmanager
async def _serving(wire: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.split(b": ", 1) for line in head.rstrip().split(b"\r\n")[1:])
                await reader.readexactly(int(fields[b"Content-Length"]))
                writer.write(wire)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
