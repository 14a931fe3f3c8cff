"""Both event loops, and servers and exchangers that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.client.both_loops import BOTH_LOOPS, leaving_nothing
from tests.http.native.raw_server import Bench


@pytest.fixture(params=BOTH_LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return request.param


@pytest.fixture
async def bench(anyio_backend: object) -> AsyncIterator[Bench]:
    async with leaving_nothing() as stack:
        yield Bench(stack)
