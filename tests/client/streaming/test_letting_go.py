"""What a request that failed leaves behind: nothing that only the garbage collector would free."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.response_reader import ResponseReader
from batch_gateway.testing import GatewayHandle

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["whole", "streamed"])
async def client(
    gateway: GatewayHandle, request: pytest.FixtureRequest
) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(
        gateway.url,
        retry=None,
        stream_upstream=request.param,
        stream_idle_timeout=0.2,
        timeout=0.1,
        max_response_bytes=64 * 1024,
    )
    async with HTTPInferenceClient(config) as made:
        yield made


async def fail(client: HTTPInferenceClient, fault: str) -> str:
    request = InferenceRequest(
        params={"model": "m", "prompt": "x" * 1000}, headers={"X-Simulate-Fault": fault}
    )
    try:
        await client.generate(request)
    except InferenceError as error:
        return error.message
    raise AssertionError("it was to fail")


def living(kinds: tuple[type[Any], ...]) -> list[object]:
    gc.collect()
    return alive(kinds, [])


def alive(kinds: tuple[type[Any], ...], known: list[object]) -> list[object]:
    """What there is now besides what is known."""
    numbers = {id(one) for one in known}
    found = [one for one in gc.get_objects() if isinstance(one, kinds)]
    return [one for one in found if id(one) not in numbers]


@pytest.mark.parametrize(
    "fault", ["status-503", "endless-body", "stall", "half-body", "reset-after-headers"]
)
async def test_a_failed_request_is_free_at_once(client: HTTPInferenceClient, fault: str) -> None:
    await fail(client, fault)
    # Bodies of requests and responses, and the frames that held them.
    kinds = (BodyStream, PreparedRequest, InferenceError)
    known = living(kinds)
    gc.disable()
    try:
        for _ in range(3):
            await fail(client, fault)
        # The event loop has yet to call what it was told about the connection's end.
        for _ in range(5):
            await asyncio.sleep(0)
        assert alive(kinds, known) == []
    finally:
        gc.enable()


async def test_an_idle_connection_holds_no_answer(gateway: GatewayHandle) -> None:
    gateway.configure(embedding_dimensions=3000)
    known = living((ResponseReader,))
    async with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)) as client:
        request = InferenceRequest(params={"model": "m", "input": ["x"] * 4})
        body = (await client.generate(request)).body
        assert len(body) > 64 * 1024
        readers = alive((ResponseReader,), known)
        held = [one for reader in readers for one in gc.get_referents(reader)]
        assert readers
        assert max(len(one) for one in held if isinstance(one, bytes | bytearray)) < 1024


async def test_a_stream_without_an_end_of_line_fills_no_more_than_an_answer_may(
    gateway: GatewayHandle,
) -> None:
    config = HTTPInferenceClientConfig(
        gateway.url, retry=None, stream_upstream=True, max_response_bytes=64 * 1024
    )
    async with HTTPInferenceClient(config) as client:
        message = await fail(client, "endless-body")
    assert message.startswith("the response is larger than max_response_bytes (65536 bytes)")
