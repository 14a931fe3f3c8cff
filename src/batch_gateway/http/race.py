"""Happy eyeballs (RFC 8305 §5): several addresses, staggered attempts, the first to connect."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Sequence

from batch_gateway.http.addresses import Address

__all__ = ["first_to_connect"]

Connect = Callable[[Address], Awaitable[socket.socket]]

# Before the next address gets its chance beside the one that has not answered yet.
_STAGGER = 0.25

# Said by this machine about families it does not have; another address's answer says more.
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


async def first_to_connect(addresses: Sequence[Address], connect: Connect) -> socket.socket:
    """The socket of the first address that connects; the other attempts are undone.

    An attempt that fails makes room for the next at once. uvloop's `create_connection` has no
    happy eyeballs of its own. Raises the OSError that says most when no address connects.
    """
    if len(addresses) == 1:
        return await connect(addresses[0])
    race = _Race(connect)
    try:
        return await race.run(addresses)
    finally:
        await race.end()


class _Race:
    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._running: set[asyncio.Future[socket.socket]] = set()
        self._errors: list[OSError] = []
        self._winner: socket.socket | None = None

    async def run(self, addresses: Sequence[Address]) -> socket.socket:
        for address in addresses:
            self._running.add(asyncio.ensure_future(self._connect(address)))
            if await self._wait(_STAGGER):
                break
        while self._winner is None and self._running:
            await self._wait(None)
        if self._winner is None:
            raise self._telling_error()
        return self._winner

    async def end(self) -> None:
        """Cancel what still runs, and close what connected but did not win."""
        for attempt in self._running:
            attempt.cancel()
        late = await asyncio.gather(*self._running, return_exceptions=True)
        for sock in late:
            if isinstance(sock, socket.socket):
                sock.close()

    async def _wait(self, timeout: float | None) -> bool:
        """Wait for an attempt to end; whether there is a winner."""
        done, _ = await asyncio.wait(
            self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
        )
        for attempt in done:
            error = attempt.exception()
            if error is None and self._winner is not None:
                continue  # stays among the running, for `end` to close
            self._running.discard(attempt)
            if error is None:
                self._winner = attempt.result()
            elif isinstance(error, OSError):
                self._errors.append(error)
            else:
                raise error
        return self._winner is not None

    def _telling_error(self) -> OSError:
        if not self._errors:
            return OSError(errno.EADDRNOTAVAIL, "no address to connect to")
        telling = [error for error in self._errors if error.errno not in _NO_ROUTE]
        return (telling or self._errors)[0]
