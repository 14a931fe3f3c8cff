"""Closing a port without leaving anybody half let in."""

from __future__ import annotations

import asyncio
import contextlib

__all__ = ["stop_listening"]

# A turn of the loop to accept a connection, one to make its transport, one to tell its protocol.
_TURNS = 3


async def stop_listening(server: asyncio.Server) -> None:
    """Let nobody else in. Whoever was let in before is a connection when this returns.

    `Server.close` alone forgets those whose transport is made afterwards, and leaves their sockets
    open: `Server._attach` refuses them (CPython 3.11 to 3.13).
    """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(NotImplementedError):  # as on Windows
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    server.close()
