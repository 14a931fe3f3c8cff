"""The transport against servers that nobody here wrote: nothing lost, nothing mixed up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest

from batch_gateway.client.build import build_exchanger
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ErrorCategory, InferenceError, StaleConnectionError
from batch_gateway.http.exchange import HTTPExchanger, HTTPResponse

from .foreign_servers import SERVERS, Place, running_server
from .processes import free_port

pytestmark = [pytest.mark.anyio, pytest.mark.peer("foreign servers")]

LIMIT = 30.0
LARGE = 5_000_000
# Granian's has no setting for it.
CLOSE_IDLE_AFTER_1_S = ["uvicorn", "node", "nginx", "envoy"]


@pytest.fixture(scope="module", params=SERVERS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    with running_server(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


@contextlib.asynccontextmanager
async def exchanging(place: Place, **settings: int) -> AsyncIterator[HTTPExchanger]:
    config = HTTPInferenceClientConfig(place.base_url, **settings)  # pyright: ignore
    exchanger = build_exchanger(config)
    try:
        yield exchanger
    finally:
        await exchanger.aclose()


async def post(exchanger: HTTPExchanger, path: str, body: bytes) -> HTTPResponse:
    headers = [("X-Request-ID", body[:20].decode("latin-1").strip())]
    return await exchanger.post(path, headers, body, deadline=time.monotonic() + LIMIT)


def body_of(number: int, size: int) -> bytes:
    """Different in every byte range from that of any other number."""
    return b"%08d " % number * (size // 9 + 1)


def mixed(count: int) -> list[tuple[str, bytes, int]]:
    """Path, body and status: mostly small ones, some of every other kind."""
    chosen: list[tuple[str, bytes, int]] = []
    for number in range(count):
        path, size, status = "/echo", 1_000, 200
        if number % 50 == 10:
            size = LARGE
        elif number % 50 == 20:
            path = "/large"
        elif number % 10 == 3:
            path, size = "/chunked", 200_000
        elif number % 10 == 6:
            path, status = "/status/429", 429
        elif number % 10 == 8:
            size = 70_000
        chosen.append((path, body_of(number, size), status))
    return chosen


async def test_two_hundred_mixed_requests_get_their_own_answers(place: Place) -> None:
    async with exchanging(place, max_connections=16) as exchanger:
        requests = mixed(200)
        responses = await asyncio.gather(*(post(exchanger, p, b) for p, b, _ in requests))
    for (path, body, status), response in zip(requests, responses, strict=True):
        assert response.status_code == status
        if path == "/large":
            assert len(response.body) > LARGE
        else:
            assert response.body == body


async def test_requests_one_after_another_outlive_the_recycling_of_connections(
    place: Place,
) -> None:
    """nginx closes a connection after ten requests."""
    async with exchanging(place) as exchanger:
        for number in range(45):
            body = body_of(number, 200)
            assert (await post(exchanger, "/echo", body)).body == body


@pytest.mark.parametrize("name", CLOSE_IDLE_AFTER_1_S)
async def test_connections_closed_for_idleness_cost_no_request(name: str, tmp_path: Path) -> None:
    """Requests go out just while the server closes the connections that wait for them."""
    with running_server(name, tmp_path / name) as place:
        await _use_connections_that_are_being_closed(place)


async def _use_connections_that_are_being_closed(place: Place) -> None:
    async with exchanging(place) as exchanger:
        bodies = [body_of(number, 200) for number in range(40)]
        await asyncio.gather(*(post(exchanger, "/slow", body) for body in bodies))
        # The server's own clock is what is being tried, so there is nothing else to wait for.
        await asyncio.sleep(0.9)
        tasks: list[asyncio.Task[HTTPResponse]] = []
        for body in bodies:
            tasks.append(asyncio.create_task(post(exchanger, "/echo", body)))
            await asyncio.sleep(0.005)
        stale = _failed(bodies, await _results(tasks), StaleConnectionError)
        while stale:
            body = stale.pop()
            again = asyncio.create_task(post(exchanger, "/echo", body))
            stale += _failed([body], await _results([again]), StaleConnectionError)


@pytest.mark.parametrize("name", SERVERS)
async def test_a_server_that_stops_under_load_and_comes_back_costs_no_request(
    name: str, tmp_path: Path
) -> None:
    port = free_port()
    bodies = [body_of(number, 500) for number in range(60)]
    with contextlib.ExitStack() as running:
        start = running_server(name, tmp_path / "first", port)
        place = await asyncio.to_thread(running.enter_context, start)
        async with exchanging(place, max_connections=20) as exchanger:
            tasks = [asyncio.create_task(post(exchanger, "/slow", body)) for body in bodies]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=LIMIT)
            await asyncio.to_thread(running.close)
            failed = _failed(bodies, await _results(tasks))
            assert failed
            start = running_server(name, tmp_path / "second", port)
            await asyncio.to_thread(running.enter_context, start)
            again = [asyncio.create_task(post(exchanger, "/slow", body)) for body in failed]
            assert _failed(failed, await _results(again)) == []
        await asyncio.to_thread(running.close)


async def _results(
    tasks: Sequence[asyncio.Task[HTTPResponse]],
) -> list[HTTPResponse | BaseException]:
    async with asyncio.timeout(LIMIT):
        return await asyncio.gather(*tasks, return_exceptions=True)


def _failed(
    bodies: Sequence[bytes],
    results: Sequence[HTTPResponse | BaseException],
    how: type[InferenceError] = InferenceError,
) -> list[bytes]:
    """Bodies that are to be sent again; every other has its own answer."""
    failed: list[bytes] = []
    for body, result in zip(bodies, results, strict=True):
        if isinstance(result, BaseException):
            assert isinstance(result, how)
            assert result.is_retryable
            assert result.category is ErrorCategory.SERVER_ERROR
            failed.append(body)
        elif result.status_code >= 500:  # a proxy whose backend is gone
            failed.append(body)
        else:
            assert result.body == body
    return failed
