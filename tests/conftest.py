"""What every test may rely on."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.leaks", "tests.peers.browser", "tests.peers.postgres"]

# Tests start thousands of programs, which mostly compile where nothing compiled is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine may take any time.
settings.register_profile(
    "busy", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    """Commands that tests start heed Ctrl-C also where the tests are a job in the background.

    Its shell has Ctrl-C ignored, which whatever it starts inherits.
    """
    # Files go to xdist's workers as below, and not by how many tests they have.
    config.option.loadscopereorder = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take long comes first, so that no worker is alone with it in the end."""
    long = {item.path for item in items if item.get_closest_marker("timeout") is not None}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Async tests run on stock asyncio unless they ask for another loop; what serves a module of
    them has the same."""
    return "asyncio"
