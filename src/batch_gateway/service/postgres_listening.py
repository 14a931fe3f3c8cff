"""Hearing of new work at once, by PostgreSQL's LISTEN, beside looking for it now and then."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from batch_gateway.service.postgres_connections import Connections, asyncpg

__all__ = ["listen"]

# Many announcements are heard as a few: each has a worker look for work.
_BETWEEN_SECONDS: Final = 0.1
# A connection that was cut off without a word is found out so.
_PROBE_SECONDS: Final = 60.0
_PROBE_TIMEOUT: Final = 10.0
_AGAIN_SECONDS: Final = 5.0


async def listen(connections: Connections, channel: str, heard: Callable[[], None]) -> None:
    """Call `heard` soon after others have notified `channel`, until cancelled.

    Returns at once behind a pooler, which gives nobody a session of its own.
    """
    while not connections.is_pooled:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            connection = await connections.open()
            try:
                await _hear(connection, channel, heard)
            finally:
                connection.terminate()
        # Of what is wrong others tell, who cannot do without.
        await asyncio.sleep(_AGAIN_SECONDS)


async def _hear(connection: Any, channel: str, heard: Callable[[], None]) -> None:
    """Until the connection is lost."""
    told, lost = asyncio.Event(), asyncio.Event()
    connection.add_termination_listener(partial(_set, lost))
    await connection.add_listener(channel, partial(_set, told))
    passing_on = asyncio.create_task(_pass_on(told, heard))
    try:
        while not lost.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_SECONDS):
                    await lost.wait()
            await connection.fetchval("SELECT 1", timeout=_PROBE_TIMEOUT)
    finally:
        passing_on.cancel()


def _set(event: asyncio.Event, *_of_whom: object) -> None:
    event.set()


async def _pass_on(told: asyncio.Event, heard: Callable[[], None]) -> None:
    while True:
        await told.wait()
        told.clear()
        heard()
        await asyncio.sleep(_BETWEEN_SECONDS)
