"""obstore's threads, which begin with its first work and never end: before any test of it.

Import this where a test uses obstore.
"""

from __future__ import annotations

import asyncio

import obstore
from obstore.store import MemoryStore

__all__ = ["OBSTORE_RUNS"]

OBSTORE_RUNS = True


async def _work() -> None:
    await obstore.put_async(MemoryStore(), "x", b"")


asyncio.run(_work())
