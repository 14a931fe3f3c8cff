"""The transport over real sockets, through the door that the client uses."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from batch_gateway.client.build import build_exchanger
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.http.exchange import HTTPExchanger, HTTPResponse

from .certificates import Certificates
from .scripted_server import LIMIT


class Connect(Protocol):
    """Makes an exchanger that is closed when the test ends."""

    def __call__(self, base_url: str, **settings: Any) -> HTTPExchanger: ...


class Post(Protocol):
    """Posts through an exchanger, by default with room in time."""

    async def __call__(
        self,
        exchanger: HTTPExchanger,
        body: bytes = b"{}",
        *,
        path: str = "/v1/completions",
        headers: Sequence[tuple[str, str]] = (),
        within: float = LIMIT,
    ) -> HTTPResponse: ...


@pytest.fixture
def post() -> Post:
    async def post(
        exchanger: HTTPExchanger,
        body: bytes = b"{}",
        *,
        path: str = "/v1/completions",
        headers: Sequence[tuple[str, str]] = (),
        within: float = LIMIT,
    ) -> HTTPResponse:
        return await exchanger.post(path, headers, body, deadline=time.monotonic() + within)

    return post


@pytest.fixture
async def connect(_no_leaked_tasks: None) -> AsyncIterator[Connect]:
    made: list[HTTPExchanger] = []

    def connect(base_url: str, **settings: Any) -> HTTPExchanger:
        exchanger = build_exchanger(HTTPInferenceClientConfig(base_url, **settings))
        made.append(exchanger)
        return exchanger

    yield connect
    for exchanger in made:
        await exchanger.aclose()


@pytest.fixture(autouse=True)
def _no_leaked_sockets() -> Iterator[None]:
    """Both ends of every connection are closed when a test ends."""
    before = open_sockets()
    yield
    leaked = open_sockets() - before
    assert not leaked, f"still open: {leaked}"


@pytest.fixture
async def _no_leaked_tasks(anyio_backend: object) -> AsyncIterator[None]:
    """Every task that a test started, or made a transport start, is over when it ends."""
    yield
    async with asyncio.timeout(LIMIT):
        while _tasks():
            await asyncio.sleep(0)


def _tasks() -> set[str]:
    """Tasks under way, without those that anyio runs fixtures and tests in."""
    found: set[str] = set()
    for task in asyncio.all_tasks():
        coroutine = task.get_coro()
        if not (inspect.iscoroutine(coroutine) and "anyio" in coroutine.cr_code.co_filename):
            found.add(repr(task))
    return found


def open_sockets() -> set[str]:
    """The sockets of this process, by inode; none where there is no /proc."""
    found: set[str] = set()
    folder = Path("/proc/self/fd")
    for entry in folder.iterdir() if folder.is_dir() else ():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))
