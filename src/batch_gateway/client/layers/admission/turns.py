"""Whose turn it is: by urgency, then fairly by tenant, then by due time and arrival. Pure.

The law of the order:

1. **Urgency first.** A waiter's level is the time left to its due time when it came, to within a
   factor of two: whole seconds left, in bits. The most urgent level that anybody waits in is
   served, so that a line due in an hour passes a million lines due tomorrow. Waiters without a due
   time have a level of their own, the least urgent.
2. **Then fairly.** Within a level tenants take turns, one permit each (round robin over sources,
   J. Nagle, RFC 970, 1985: each permit costs one, so that no virtual time is needed). Whoever had
   a turn, or comes anew, queues up behind the other tenants: between two turns of a tenant that
   waits no other has more than one, however many of its own wait.
3. **Then by due time, and by arrival.** Within a tenant and a level the earliest due goes first,
   and of those the first that came.
4. **Nobody starves.** Every eighth permit goes to the levels in turn instead of to the most urgent
   one. With `l` levels and `t` tenants waiting, and `k` of its own tenant and level before it, a
   waiter has its permit after at most `8 * l * t * (k + 1)`. Levels are few, because each spans
   twice as much time as the one before; and `k` stops growing when the due time is near, since
   those who come later are then due later.

Two tenants with 24 hours each, half an hour apart, are of one level and share, but for the half
hours in which only one of them has come under 18 h 12 min, 9 h 6 min, and so on.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque
from itertools import count
from typing import Generic, TypeVar

__all__ = ["EVERY", "Turn", "Turns", "urgency"]

EVERY = 8
"""Of so many permits one does not heed urgency."""

_NO_DUE_TIME = 1_000  # beyond the level of every due time
_NEVER = float("inf")
_LEFTOVERS = 16  # so many that have left need not be swept out

T = TypeVar("T")


def urgency(due: float, now: float) -> int:
    """The level of a waiter that is due at `due` and comes at `now`; a smaller one is served first.

    Times are monotonic seconds; infinity is no due time.
    """
    return _NO_DUE_TIME if due == _NEVER else int(max(0.0, due - now)).bit_length()


class Turn(Generic[T]):
    """A place among those who wait, for whoever wants to leave it.

    Attributes:
        waits: it has neither had its turn nor left.
    """

    __slots__ = ("item", "line", "waits")

    def __init__(self, item: T, line: _Line[T]) -> None:
        self.item = item
        self.line = line
        self.waits = True


class _Line(Generic[T]):
    """Those of one tenant and one level; `waiting` of them have not left."""

    __slots__ = ("heap", "level", "tenant", "waiting")

    def __init__(self, level: int, tenant: str) -> None:
        self.level = level
        self.tenant = tenant
        self.heap: list[tuple[float, int, Turn[T]]] = []
        self.waiting = 0

    def sweep(self) -> None:
        if len(self.heap) > 2 * self.waiting + _LEFTOVERS:
            self.heap = [entry for entry in self.heap if entry[2].waits]
            heapq.heapify(self.heap)


class Turns(Generic[T]):
    """Everybody who waits. Coming, leaving and taking a turn are O(log n); no clock, no I/O.

    Attributes:
        waiting: how many do.
    """

    def __init__(self) -> None:
        self.waiting = 0
        # In each level the tenant whose turn it is comes first.
        self._levels: dict[int, OrderedDict[str, _Line[T]]] = {}
        self._in_turn = deque[int]()
        self._numbers = count()
        self._given = 0

    def __len__(self) -> int:
        return self.waiting

    def push(self, item: T, now: float, due: float = float("inf"), tenant: str = "") -> Turn[T]:
        """`item` waits from now on; what is overdue is due now."""
        number = _NO_DUE_TIME if due == _NEVER else urgency(due, now)
        level = self._levels.get(number)
        line = None if level is None else level.get(tenant)
        if line is None:
            line = self._begin(number, tenant)
        turn = Turn(item, line)
        heapq.heappush(line.heap, (max(now, due), next(self._numbers), turn))
        line.waiting += 1
        self.waiting += 1
        return turn

    def pop(self) -> T:
        """Whose turn it is. Raises IndexError when nobody waits."""
        if not self.waiting:
            raise IndexError("nobody waits")
        self._given += 1
        levels = self._levels
        level = levels[self._in_turn[0] if len(levels) == 1 else self._next_level()]
        line = next(iter(level.values()))
        while not (turn := heapq.heappop(line.heap)[2]).waits:
            pass
        if len(level) > 1:
            level.move_to_end(line.tenant)
        self._leave(turn)
        return turn.item

    def remove(self, turn: Turn[T]) -> None:
        """Somebody waits no longer; the others' turns are as if it had never come."""
        if turn.waits:
            self._leave(turn).sweep()

    def surely_before(self, due: float, tenant: str) -> int:
        """How many would go before one that came now, whoever comes later.

        Nobody goes for certain before one with a due time: it may be the most urgent.
        """
        level = self._levels.get(_NO_DUE_TIME) if due == _NEVER else None
        line = None if level is None else level.get(tenant)
        return 0 if line is None else line.waiting

    def _next_level(self) -> int:
        if self._given % EVERY:
            return min(self._levels)
        self._in_turn.rotate(-1)
        return self._in_turn[-1]

    def _begin(self, number: int, tenant: str) -> _Line[T]:
        level = self._levels.get(number)
        if level is None:
            level = self._levels[number] = OrderedDict()
            self._in_turn.append(number)
        line = level[tenant] = _Line(number, tenant)
        return line

    def _leave(self, turn: Turn[T]) -> _Line[T]:
        turn.waits, line = False, turn.line
        self.waiting -= 1
        line.waiting -= 1
        if not line.waiting:
            level = self._levels[line.level]
            del level[line.tenant]
            if not level:
                del self._levels[line.level]
                self._in_turn.remove(line.level)
        return line
