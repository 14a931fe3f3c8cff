"""A gateway that answers at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(SimulatorConfig.instant()) as running:
        yield running
