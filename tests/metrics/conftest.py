"""A simulated gateway whose answers are of one length."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from batch_gateway.testing import GatewayHandle, simulated_gateway


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(output_tokens=5, output_distribution="fixed") as running:
        yield running
