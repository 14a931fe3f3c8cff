"""What the client makes of the refusals of real reverse proxies: 413, 502, 503 and 504."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.errors import InferenceError, ServerError, UnknownStatusError

from .foreign_servers import Place, running_server

pytestmark = [pytest.mark.anyio, pytest.mark.peer("nginx, envoy")]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_server("nginx", tmp_path_factory.mktemp("nginx")) as place:
        yield place


@pytest.fixture(scope="module")
def envoy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with running_server("envoy", tmp_path_factory.mktemp("envoy")) as place:
        yield place


async def refusal(
    base_url: str, endpoint: str, size: int = 10, unix_socket: Path | None = None
) -> InferenceError:
    config = HTTPInferenceClientConfig(
        base_url,
        retry=None,
        timeout="20s",
        unix_socket=unix_socket,
    )
    request = InferenceRequest(
        params={"model": "m", "prompt": "x" * size}, endpoint=endpoint, request_id="req-1"
    )
    async with HTTPInferenceClient(config) as client:
        with pytest.raises(InferenceError) as caught:
            await client.generate(request)
    error = caught.value
    assert error.request_id == "req-1"
    assert "<" not in str(error)
    assert len(str(error)) < 300
    return error


@pytest.mark.parametrize("size", [1_500_000, 20_000_000])
async def test_nginx_refuses_a_large_body_before_it_is_sent(nginx: Place, size: int) -> None:
    error = await refusal(nginx.base_url, "/limited", size)
    assert isinstance(error, UnknownStatusError)
    assert error.status_code == 413
    assert not error.is_retryable
    assert "Too Large" in str(error)


async def test_nginx_has_a_backend_that_refuses(nginx: Place) -> None:
    error = await refusal(nginx.base_url, "/refused")
    assert isinstance(error, ServerError)
    assert error.status_code == 502
    assert error.is_retryable
    assert "Bad Gateway" in str(error)


async def test_nginx_has_a_backend_that_does_not_answer(nginx: Place) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(nginx.folder / "silent.sock"))
        silent.listen()
        try:
            error = await refusal(nginx.base_url, "/silent")
        finally:
            (nginx.folder / "silent.sock").unlink()
    assert isinstance(error, ServerError)
    assert error.status_code == 504
    assert error.is_retryable


async def test_nginx_behind_a_unix_socket(nginx: Place) -> None:
    path = nginx.folder / "nginx.sock"
    error = await refusal("http://gateway.test", "/status/429", unix_socket=path)
    assert error.status_code == 429


async def test_envoy_has_a_backend_that_refuses(envoy: Place) -> None:
    error = await refusal(envoy.base_url, "/refused")
    assert isinstance(error, ServerError)
    assert error.status_code == 503
    assert error.is_retryable
    assert "upstream connect error" in str(error)
