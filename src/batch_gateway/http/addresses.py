"""From a host to socket addresses: looked up once for many dials, spread over the answers."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable, Coroutine, Sequence

__all__ = ["Address", "Addresses"]

Address = tuple[socket.AddressFamily, tuple[object, ...]]
"""Family and what `socket.connect` takes."""

# Long enough that a thousand dials at once ask once, short enough to follow a service's pods.
_REUSE_SECONDS = 5.0


class Addresses:
    """The addresses of one host and port."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        look_up: Callable[[str, int], Coroutine[None, None, list[Address]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look_up = look_up or _look_up
        self._clock = clock
        self._host = host
        self._port = port
        self._turn = 0
        self._fresh_until = 0.0
        self._known: list[Address] = []
        self._lookup: asyncio.Task[None] | None = None
        literal = _numeric(host, port)
        if literal:
            self._known, self._fresh_until = literal, float("inf")

    async def resolve(self) -> list[Address]:
        """In the order to try them: families alternate, the preferred one first.

        Each call starts at another address of a family, because a headless service has one for
        each of its pods. Raises OSError (socket.gaierror) when the look-up fails.
        """
        if self._clock() >= self._fresh_until:
            await self._refresh()
        self._turn += 1
        return alternated(self._known, self._turn - 1)

    def distrust(self) -> None:
        """An address did not answer: look the name up again next time."""
        if self._fresh_until != float("inf"):
            self._fresh_until = 0.0

    def close(self) -> None:
        if self._lookup is not None:
            self._lookup.cancel()

    async def _refresh(self) -> None:
        if self._lookup is None:
            self._lookup = asyncio.create_task(self._renew())
            self._lookup.add_done_callback(self._looked_up)
        # One caller giving up must not take the look-up away from the others.
        await asyncio.shield(self._lookup)

    async def _renew(self) -> None:
        # Kept by the task itself: a caller may find it done before its callbacks have run.
        self._known = await self._look_up(self._host, self._port)
        self._fresh_until = self._clock() + _REUSE_SECONDS

    def _looked_up(self, lookup: asyncio.Task[None]) -> None:
        self._lookup = None
        # Marks it as seen when every caller has given up.
        if not lookup.cancelled():
            lookup.exception()


def alternated(addresses: Sequence[Address], turn: int) -> list[Address]:
    """Families taken in turns (RFC 8305 §4), each rotated by `turn`."""
    by_family: dict[int, list[Address]] = {}
    for address in addresses:
        by_family.setdefault(address[0], []).append(address)
    rotated = [
        found[turn % len(found) :] + found[: turn % len(found)] for found in by_family.values()
    ]
    rounds = itertools.zip_longest(*rotated)
    return [address for one_round in rounds for address in one_round if address is not None]


def _numeric(host: str, port: int) -> list[Address]:
    """The address when `host` is one already; empty when it is a name."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return []
    return [(family, address) for family, _, _, _, address in found]


async def _look_up(host: str, port: int) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long for the IDNA codec
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from error
    return [(family, address) for family, _, _, _, address in found]
