"""An API on free ports, with records and a store of its own."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.server.running import Api, running_api

Start = Callable[..., AbstractAsyncContextManager[Api]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path / "data") as running:
        yield running


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts an API with settings of the test's own, any number of times on the same folder."""

    @contextlib.asynccontextmanager
    async def begin(**settings: Any) -> AsyncIterator[Api]:
        async with running_api(tmp_path / "data", **settings) as running:
            yield running

    return begin
