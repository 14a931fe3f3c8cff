"""Fixtures of the trials against servers that nobody here wrote."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.grader import Grader, running_grader
from tests.peers.llama import Llama, running_llama


@pytest.fixture
def peer_log(tmp_path: Path) -> Path:
    """Where a peer's output goes, to be quoted when it does not start."""
    return tmp_path / "peer.log"


@pytest.fixture(scope="session", autouse=True)
def _posix_only() -> None:
    if sys.platform == "win32" or not hasattr(os, "killpg"):
        pytest.skip("peers are run on POSIX systems only")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    with running_llama(tmp_path_factory.mktemp("llama")) as server:
        yield server


@pytest.fixture(scope="module")
def _grader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grader]:
    with running_grader(tmp_path_factory.mktemp("llmock") / "llmock.log") as grader:
        yield grader


@pytest.fixture
def grader(_grader: Grader) -> Grader:
    """One that remembers nothing of earlier cases."""
    _grader.reset()
    return _grader
