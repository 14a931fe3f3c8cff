"""A simulated gateway for runs to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, SimulatorConfig, simulated_gateway


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    """Answers at once; models named fault-… fail as their name says."""
    with simulated_gateway(SimulatorConfig.small_gpu(output_tokens=2)) as running:
        running.configure(latency_scale=0.0)
        yield running
