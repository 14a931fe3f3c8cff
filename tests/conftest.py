"""What every test may rely on."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Async tests run on stock asyncio unless they ask for another loop."""
    return "asyncio"
