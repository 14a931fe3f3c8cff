"""Which connection serves which request: every decision, no I/O and no waiting.

A request takes an idle connection, or reserves a slot and dials, or waits for either in order
of arrival. Slots are what `max_connections` counts: dials under way, connections in use and
idle ones. A request waits only while no connection is idle and no slot is free, because
whatever becomes free goes straight to the first in line.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from batch_gateway.errors import InferenceError

__all__ = ["Pool", "PoolStatistics", "PooledConnection", "Waiter"]

_NEVER = float("inf")

# Connections above `max_idle` are closed after this long, not at once: answers come in bursts,
# and a limit enforced to the instant would close connections that the next burst needs.
_SURPLUS_SECONDS = 1.0


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


C_contra = TypeVar("C_contra", bound=PooledConnection, contravariant=True)


class Waiter(Protocol[C_contra]):
    """A request in the queue. It may be done before the pool knows, by being cancelled."""

    deadline: float

    def done(self) -> bool: ...
    def expire(self) -> None: ...
    def fail(self, error: InferenceError) -> None: ...
    def grant(self, connection: C_contra | None) -> None:
        """Your turn: use this connection, or, given None, the slot to dial a new one."""
        ...


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    """Counts at one moment. `open` is `idle` + `in_use`; `connecting` comes on top."""

    open: int
    idle: int
    in_use: int
    connecting: int
    waiting: int


class Pool(Generic[C]):
    """Connections to one gateway. The newest idle one is used first, so that surplus ages."""

    def __init__(
        self, *, max_idle: int, idle_timeout: float, max_connections: int | None = None
    ) -> None:
        self._max_idle = max_idle
        self._idle_timeout = idle_timeout
        self._max_connections = _NEVER if max_connections is None else max_connections
        self._open: set[C] = set()
        # Idle since when; insertion order is age. A plain dict is the cheapest such stack.
        self._idle: dict[C, float] = {}
        self._connecting = 0
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

    def reserve(self) -> bool:
        """Take a slot to dial in, if one is free."""
        if len(self._open) + self._connecting >= self._max_connections:
            return False
        self._connecting += 1
        return True

    def dialled(self, connection: C) -> None:
        """The dial in a reserved slot succeeded; the connection is in use."""
        self._connecting -= 1
        self._open.add(connection)

    def dial_failed(self) -> None:
        """The dial in a reserved slot failed; the slot goes to the next in line."""
        self._connecting -= 1
        self._pass_on_slot()

    def enqueue(self, waiter: Waiter[C]) -> None:
        self._waiters[waiter] = None

    def withdraw(self, waiter: Waiter[C]) -> None:
        """The request no longer waits, whether or not it had its turn."""
        self._waiters.pop(waiter, None)

    def swap_for_slot(self, connection: C) -> None:
        """Drop a connection in use that turned out dead, and dial in its slot."""
        self._open.discard(connection)
        self._connecting += 1
        connection.abort()

    def release(self, connection: C, now: float) -> float:
        """Give back a connection in use. Returns when `evict` is next needed."""
        if not connection.reusable:
            self._drop(connection)
            return _NEVER
        waiter = self._next_waiter()
        if waiter is not None:
            waiter.grant(connection)
            return _NEVER
        if not self._max_idle:
            self._open.discard(connection)
            connection.close()
            return _NEVER
        connection.kept = True
        self._idle[connection] = now
        return now + (_SURPLUS_SECONDS if len(self._idle) > self._max_idle else self._idle_timeout)

    # --- for the event loop ---

    def lost(self, connection: C) -> None:
        """The socket of a connection is closed. One in use is left to its `release`."""
        if self._idle.pop(connection, None) is not None:
            self._open.discard(connection)
            self._pass_on_slot()

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
            self._pass_on_slot()
        return _NEVER

    def expire(self, now: float) -> float:
        """Fail every request past its deadline. Returns the earliest deadline of the others."""
        earliest = _NEVER
        for one in (*self._open, *self._waiters):
            if one.deadline <= now:
                one.expire()
            elif one.deadline < earliest:
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
            connecting=self._connecting,
            waiting=len(self._waiters),
        )

    def _drop(self, connection: C) -> None:
        self._open.discard(connection)
        connection.abort()
        self._pass_on_slot()

    def _pass_on_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is not None:
            self._connecting += 1
            waiter.grant(None)

    def _next_waiter(self) -> Waiter[C] | None:
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                return waiter
        return None
