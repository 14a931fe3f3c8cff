"""A gateway that answers at once, for every test that does not care how fast."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway() as running:
        yield running
