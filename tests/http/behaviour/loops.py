"""Event loops for tests whose outcome may depend on the loop."""

from __future__ import annotations

import pytest

__all__ = ["EVERY_LOOP"]

EVERY_LOOP = [
    pytest.param("asyncio", id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
