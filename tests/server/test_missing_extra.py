"""Without the extra there is one sentence that says what to install."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.machinery import ModuleSpec

import pytest

import batch_gateway.server
from batch_gateway.errors import ConfigError


def test_what_is_missing_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in {"uvicorn", "sqlalchemy"} else there(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    with pytest.raises(
        ConfigError, match=r"needs sqlalchemy, uvicorn: .*pip install 'batch-gateway\[server\]'"
    ):
        importlib.reload(batch_gateway.server)
