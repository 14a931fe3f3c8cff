"""Fixtures of the trials against servers that nobody here wrote."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def peer_log(tmp_path: Path) -> Path:
    """Where a peer's output goes, to be quoted when it does not start."""
    return tmp_path / "peer.log"


@pytest.fixture(scope="session", autouse=True)
def _posix_only() -> None:
    if sys.platform == "win32" or not hasattr(os, "killpg"):
        pytest.skip("peers are run on POSIX systems only")
