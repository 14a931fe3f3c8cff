"""A gateway at once, asked through either transport."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.instant()) as running:
        yield running


@pytest.fixture(params=["native", "aiohttp"])
def transport(request: pytest.FixtureRequest) -> str:
    return request.param
