"""Which connection serves which request: every decision, no I/O and no waiting.

A request takes an idle connection, or gets a slot and dials, or waits for either in order of
arrival. `max_connections` counts connections in use, idle ones and dials. Of dials there are
only so many at a time besides: five thousand TLS handshakes at once all end at the end, too
late for the connect timeout, and overrun the server's queue; a few at a time, each ends early,
and its connection serves many of those who wait.

A request waits only while no connection is idle and no slot is to be had, because whatever
becomes free goes straight to the first in line.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar

import msgspec

from batch_gateway.errors import InferenceError

__all__ = ["DialSlot", "Pool", "PoolStatistics", "PooledConnection", "Waiter"]

_NEVER = float("inf")

# Connections above `max_idle` are closed after this long, not at once: answers come in bursts,
# and a limit enforced to the instant would close connections that the next burst needs.
_SURPLUS_SECONDS = 1.0

# A server's queue of unaccepted connections may be as short as 100 (asyncio's default). Past it
# the kernel drops our attempt and repeats it a second later.
_MAX_DIALS = 64


class PooledConnection(Protocol):
    """What the pool asks of a connection."""

    kept: bool
    deadline: float

    @property
    def reusable(self) -> bool: ...
    def is_alive(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def expire(self) -> None: ...


C = TypeVar("C", bound=PooledConnection)


class DialSlot:
    """The right to dial one connection. `paced`: it still counts among the dials at a time."""

    __slots__ = ("paced",)

    def __init__(self) -> None:
        self.paced = True


C_contra = TypeVar("C_contra", bound=PooledConnection, contravariant=True)


class Waiter(Protocol[C_contra]):
    """A request in the queue. It may be done before the pool knows, by being cancelled."""

    deadline: float

    def done(self) -> bool: ...
    def expire(self) -> None: ...
    def fail(self, error: InferenceError) -> None: ...
    def grant(self, turn: C_contra | DialSlot) -> None:
        """Your turn: use this connection, or dial one in this slot."""
        ...


class PoolStatistics(msgspec.Struct, frozen=True):
    """Counts at one moment. `open` is `idle` + `in_use`; `connecting` comes on top."""

    open: int
    idle: int
    in_use: int
    connecting: int
    waiting: int


class Pool(Generic[C]):
    """Connections to one gateway. The newest idle one is used first, so that surplus ages."""

    def __init__(
        self,
        *,
        max_idle: int,
        idle_timeout: float,
        max_connections: int | None = None,
        max_dials: int = _MAX_DIALS,
    ) -> None:
        self._max_idle = max_idle
        self._idle_timeout = self._longest_idle = idle_timeout
        self._max_connections = _NEVER if max_connections is None else max_connections
        self._max_dials = max_dials
        self._open: set[C] = set()
        # Idle since when; insertion order is age. A plain dict is the cheapest such stack.
        self._idle: dict[C, float] = {}
        self._dialling = 0
        self._paced = 0
        self._waiters: OrderedDict[Waiter[C], None] = OrderedDict()

    # --- for a request ---

    def take(self) -> C | None:
        """The newest idle connection that is still alive, now in use; None without any."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_alive():
                return connection
            # Nobody waits for its slot, or it would not have been idle.
            self._open.discard(connection)
            connection.abort()
        return None

    def reserve(self) -> DialSlot | None:
        """A slot to dial in, if there is one."""
        return self._new_slot() if self._has_room() else None

    def linger(self, slot: DialSlot) -> None:
        """The dial in `slot` takes long: it is waiting, not working, and makes way for another."""
        if slot.paced:
            slot.paced = False
            self._paced -= 1
            self._pass_on_slots()

    def dialled(self, slot: DialSlot, connection: C) -> None:
        """The dial in `slot` succeeded; the connection is in use."""
        self._open.add(connection)
        self._end_dial(slot)

    def dial_failed(self, slot: DialSlot) -> None:
        """The dial in `slot` failed, or was not begun."""
        self._end_dial(slot)

    def enqueue(self, waiter: Waiter[C]) -> None:
        self._waiters[waiter] = None

    def withdraw(self, waiter: Waiter[C]) -> None:
        """The request no longer waits, whether or not it had its turn."""
        self._waiters.pop(waiter, None)

    def swap_for_slot(self, connection: C) -> DialSlot:
        """Drop a connection in use that turned out dead, and dial in its stead."""
        self._open.discard(connection)
        connection.abort()
        return self._new_slot()

    def release(self, connection: C, now: float) -> float:
        """Give back a connection in use. Returns when `evict` is next needed."""
        if not connection.reusable:
            self._drop(connection)
            return _NEVER
        connection.kept = True
        waiter = self._next_waiter() if self._waiters else None
        if waiter is not None:
            waiter.grant(connection)
            return _NEVER
        if not self._max_idle:
            self._open.discard(connection)
            connection.close()
            return _NEVER
        self._idle[connection] = now
        return now + (_SURPLUS_SECONDS if len(self._idle) > self._max_idle else self._idle_timeout)

    def limit_idle(self, timeout: float) -> None:
        """The server closes connections that are idle for longer, in seconds; maybe infinite."""
        self._idle_timeout = min(timeout, self._longest_idle)

    # --- for the event loop ---

    def lost(self, connection: C) -> None:
        """The socket of a connection is closed. One in use is left to its `release`."""
        if self._idle.pop(connection, None) is not None:
            self._open.discard(connection)
            self._pass_on_slots()

    def evict(self, now: float) -> float:
        """Close what has been idle too long, or is too much. Returns when to look again."""
        for connection, since in list(self._idle.items()):
            surplus = len(self._idle) > self._max_idle
            ends = since + min(self._idle_timeout, _SURPLUS_SECONDS if surplus else _NEVER)
            if ends > now:
                return ends
            del self._idle[connection]
            self._open.discard(connection)
            connection.close()
            self._pass_on_slots()
        return _NEVER

    def expire(self, now: float) -> float:
        """Fail every request past its deadline. Returns the earliest deadline of the others."""
        earliest = _NEVER
        for one in (*self._open, *self._waiters):
            if one.deadline <= now:
                one.expire()
            if now < one.deadline < earliest:
                earliest = one.deadline
        return earliest

    # --- for the owner ---

    def connections(self) -> list[C]:
        """All open ones, idle or in use."""
        return list(self._open)

    def waiters(self) -> list[Waiter[C]]:
        return list(self._waiters)

    def close_idle(self) -> None:
        for connection in list(self._idle):
            self._open.discard(connection)
            connection.close()
        self._idle.clear()

    def statistics(self) -> PoolStatistics:
        idle = len(self._idle)
        return PoolStatistics(
            open=len(self._open),
            idle=idle,
            in_use=len(self._open) - idle,
            connecting=self._dialling,
            waiting=len(self._waiters),
        )

    def _drop(self, connection: C) -> None:
        self._open.discard(connection)
        connection.abort()
        self._pass_on_slots()

    def _has_room(self) -> bool:
        room = len(self._open) + self._dialling < self._max_connections
        return room and self._paced < self._max_dials

    def _new_slot(self) -> DialSlot:
        self._dialling += 1
        self._paced += 1
        return DialSlot()

    def _end_dial(self, slot: DialSlot) -> None:
        self._dialling -= 1
        self._paced -= slot.paced
        self._pass_on_slots()

    def _pass_on_slots(self) -> None:
        while self._waiters and self._has_room():
            waiter = self._next_waiter()
            if waiter is not None:
                waiter.grant(self._new_slot())

    def _next_waiter(self) -> Waiter[C] | None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                return waiter
        return None
