"""What the tests of runs share."""

from __future__ import annotations

from pathlib import Path

import pytest

from .batch_folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)
