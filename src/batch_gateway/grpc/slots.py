"""Which connection carries which call: every decision, no I/O and no waiting.

One connection as a rule. A call that finds no room, because the server limits how many streams
there may be, waits in order of arrival; another connection is made for those who wait, one at a
time, as long as there are fewer than `max_connections`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from batch_gateway.errors import InferenceError, RequestTimeoutError

__all__ = ["CallWaiter", "ChannelStatistics", "PooledConnection", "Slots"]

_NEVER = float("inf")

# While some connection works, failures to make another are not repeated more often.
_PAUSE_AFTER_FAILURE = 1.0


class PooledConnection(Protocol):
    """What is asked of a connection."""

    @property
    def room(self) -> int: ...
    @property
    def count(self) -> int: ...
    @property
    def draining(self) -> bool: ...
    @property
    def is_lost(self) -> bool: ...
    @property
    def idle_since(self) -> float: ...
    def expire(self, now: float) -> float: ...
    def close(self) -> None: ...


C = TypeVar("C", bound=PooledConnection)
C_contra = TypeVar("C_contra", bound=PooledConnection, contravariant=True)


class CallWaiter(Protocol[C_contra]):
    """A call that waits for room. It may be done before anybody knows, by being cancelled."""

    @property
    def deadline(self) -> float: ...
    def done(self) -> bool: ...
    def fail(self, error: InferenceError) -> None: ...
    def grant(self, connection: C_contra) -> None:
        """Your turn: begin on this connection, at once."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """Counts at one moment. `waiting` calls have not begun; `calls` have."""

    connections: int
    connecting: int
    calls: int
    waiting: int


class Slots(Generic[C]):
    """Connections to one target, and the calls that wait for one."""

    def __init__(self, peer: str, *, max_connections: int, idle_timeout: float) -> None:
        self._peer = peer
        self._max_connections = max_connections
        self._idle_timeout = idle_timeout
        # In the order they were made; the first has the calls as long as it has room.
        self._open: dict[C, None] = {}
        self._waiters: OrderedDict[CallWaiter[C], None] = OrderedDict()
        self._dialling = False
        self._no_dial_before = 0.0

    # --- for a call ---

    def find(self) -> C | None:
        """A connection with room; None where there is none, or others were here first."""
        if self._waiters:
            return None
        for connection in self._open:
            if connection.room > 0:
                return connection
        return None

    @property
    def connected(self) -> bool:
        """Whether calls can begin, perhaps after others have ended."""
        return self._usable() > 0

    def enqueue(self, waiter: CallWaiter[C]) -> None:
        self._waiters[waiter] = None

    def withdraw(self, waiter: CallWaiter[C]) -> None:
        """The call no longer waits, whether or not it had its turn."""
        self._waiters.pop(waiter, None)

    # --- dials ---

    def start_dial(self, now: float) -> bool:
        """Whether to make another connection now; whoever is told so does it."""
        usable = self._usable()
        if (
            self._dialling
            or not self._waiters
            or usable >= self._max_connections
            or (usable and now < self._no_dial_before)
        ):
            return False
        self._dialling = True
        return True

    def dialled(self, connection: C, now: float) -> None:
        """A dial succeeded."""
        self._dialling = False
        self._open[connection] = None
        if connection.room <= 0:
            # More of its like would not help those who wait either.
            self._no_dial_before = now + _PAUSE_AFTER_FAILURE
        self.serve()

    def dial_failed(self, error: InferenceError, now: float) -> None:
        """A dial failed, for all who wait, unless some connection may still take them."""
        self._dialling = False
        self._no_dial_before = now + _PAUSE_AFTER_FAILURE
        if self._usable():
            return
        for waiter in list(self._waiters):
            waiter.fail(error.copy_for("", attempts=0))
        self._waiters.clear()

    # --- for the event loop ---

    def changed(self, connection: C, now: float) -> float:
        """Something about a connection changed. Returns when `evict` is next needed."""
        if connection.is_lost:
            self._open.pop(connection, None)
        self.serve()
        if connection.idle_since == _NEVER or connection.is_lost:
            return _NEVER
        return max(now, connection.idle_since + self._idle_timeout)

    def serve(self) -> None:
        """Give what room there is to those who wait, in their order."""
        if not self._waiters:
            return
        for connection in list(self._open):
            while self._waiters and connection.room > 0:
                waiter, _ = self._waiters.popitem(last=False)
                if not waiter.done():
                    waiter.grant(connection)

    def evict(self, now: float) -> float:
        """Close what has been idle too long. Returns when to look again."""
        soonest = _NEVER
        for connection in list(self._open):
            ends = connection.idle_since + self._idle_timeout
            if ends <= now:
                connection.close()
            else:
                soonest = min(soonest, ends)
        return soonest

    def expire(self, now: float) -> float:
        """Fail every call past its deadline. Returns the earliest deadline of the others."""
        soonest = min((one.expire(now) for one in list(self._open)), default=_NEVER)
        for waiter in list(self._waiters):
            if waiter.deadline <= now:
                del self._waiters[waiter]
                waiter.fail(self._too_late())
            else:
                soonest = min(soonest, waiter.deadline)
        return soonest

    # --- for the owner ---

    def connections(self) -> list[C]:
        return list(self._open)

    def fail_waiters(self, error: InferenceError) -> None:
        for waiter in list(self._waiters):
            waiter.fail(error.copy_for("", attempts=0))
        self._waiters.clear()

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(
            connections=len(self._open),
            connecting=int(self._dialling),
            calls=sum(connection.count for connection in self._open),
            waiting=len(self._waiters),
        )

    def _usable(self) -> int:
        return sum(not one.draining for one in self._open)

    def _too_late(self) -> RequestTimeoutError:
        if self._usable():
            problem = f"no stream to {self._peer} became free in time"
        else:
            problem = f"the deadline passed while connecting to {self._peer}"
        return RequestTimeoutError(problem)
