"""A simulated gateway for commands to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway


@pytest.fixture
def gateway() -> Iterator[GatewayHandle]:
    """Answers at once; models named fault-… fail as their name says."""
    with simulated_gateway() as handle:
        yield handle
