"""The queue of flow control: by priority, in turn between flows, in order within each."""

from __future__ import annotations

import heapq
from collections import OrderedDict, deque

__all__ = ["FlowQueue", "Item"]


class Item:
    """A request that waits. `flow` is its fairness id."""

    __slots__ = ("expires", "flow", "key", "priority", "waiting")

    def __init__(self, key: int, priority: int, flow: str, expires: float) -> None:
        self.key = key
        self.priority = priority
        self.flow = flow
        self.expires = expires
        self.waiting = True


class FlowQueue:
    """Who is dispatched next. Knows no clock: the caller says what time it is."""

    def __init__(self) -> None:
        self._items: dict[int, Item] = {}
        self._bands: dict[int, OrderedDict[str, deque[Item]]] = {}
        self._expiries: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, key: int) -> bool:
        return key in self._items

    def push(self, item: Item) -> None:
        """Join the end of the item's flow; a new flow is the last to have its turn."""
        self._items[item.key] = item
        flows = self._bands.setdefault(item.priority, OrderedDict())
        flows.setdefault(item.flow, deque()).append(item)
        heapq.heappush(self._expiries, (item.expires, item.key))

    def highest_priority(self) -> int | None:
        """Of all that wait; None when nobody does."""
        for priority in sorted(self._bands, reverse=True):
            if self._first_flow(priority) is not None:
                return priority
        return None

    def pop(self) -> int | None:
        """Whose turn it is, or None."""
        priority = self.highest_priority()
        if priority is None:
            return None
        flows = self._bands[priority]
        flow = self._first_flow(priority)
        assert flow is not None  # noqa: S101 - the band has someone who waits
        item = flows[flow].popleft()
        # The flow has had its turn.
        flows.move_to_end(flow)
        self._gone(item)
        return item.key

    def remove(self, key: int) -> bool:
        """It waits no longer. False if it did not."""
        item = self._items.get(key)
        if item is None:
            return False
        self._gone(item)
        return True

    def next_expiry(self) -> float | None:
        while self._expiries and self._expiries[0][1] not in self._items:
            heapq.heappop(self._expiries)
        return self._expiries[0][0] if self._expiries else None

    def pop_expired(self, now: float) -> int | None:
        """Take out one whose time is up, or None."""
        at = self.next_expiry()
        if at is None or at > now:
            return None
        key = heapq.heappop(self._expiries)[1]
        self._gone(self._items[key])
        return key

    def pop_all(self) -> list[int]:
        """Empty it."""
        keys = list(self._items)
        self.__init__()
        return keys

    def _gone(self, item: Item) -> None:
        item.waiting = False
        del self._items[item.key]

    def _first_flow(self, priority: int) -> str | None:
        """The flow of this band whose turn it is; what is empty or gone is cleared away."""
        flows = self._bands[priority]
        for flow in list(flows):
            queue = flows[flow]
            while queue and not queue[0].waiting:
                queue.popleft()
            if queue:
                return flow
            del flows[flow]
        del self._bands[priority]
        return None
