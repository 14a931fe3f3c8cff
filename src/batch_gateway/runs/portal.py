"""An event loop on a thread of its own, for who has none, or has one that it cannot wait on."""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

__all__ = ["open_portal"]


def open_portal() -> AbstractContextManager[BlockingPortal]:
    """It ends with the block, once what was started there has ended."""
    # Who has an event loop needs none of it.
    from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

    use_uvloop = importlib.util.find_spec("uvloop") is not None
    return start_blocking_portal("asyncio", backend_options={"use_uvloop": use_uvloop})
