"""A pool of pods that answer at once, and a data plane on its picker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import PoolHandle, simulated_pool

from .data_plane import DataPlane, data_plane


@pytest.fixture
def pool() -> Iterator[PoolHandle]:
    with simulated_pool(pods=4) as running:
        yield running


@pytest.fixture
def plane(pool: PoolHandle) -> Iterator[DataPlane]:
    with data_plane(pool.url) as asking:
        yield asking
