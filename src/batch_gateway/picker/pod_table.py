"""To which pods connections are kept, and when they are given up: decisions, no I/O."""

from __future__ import annotations

from typing import Generic, TypeVar

__all__ = ["PodTable"]

P = TypeVar("P")


class _Entry(Generic[P]):
    __slots__ = ("chosen_at", "pod", "users")

    def __init__(self, pod: P) -> None:
        self.pod = pod
        self.users = 0
        self.chosen_at = 0.0


class PodTable(Generic[P]):
    """Pods by endpoint, the one that was chosen longest ago first.

    Whoever takes a pod gives it back. Each method that may let pods go returns them: the caller
    closes them, which no request of theirs notices, because none is under way.
    """

    def __init__(self, *, most: int, idle_timeout: float) -> None:
        self._most = most
        self._idle_timeout = idle_timeout
        self._entries: dict[str, _Entry[P]] = {}
        # Gone from the table, but with a request under way.
        self._leaving: dict[int, _Entry[P]] = {}
        self._next_look = float("inf")

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, endpoint: str, now: float) -> P | None:
        """The pod, in use until `give_back`; None when it is not known yet."""
        entry = self._entries.pop(endpoint, None)
        if entry is None:
            return None
        self._use(endpoint, entry, now)
        return entry.pod

    def add(self, endpoint: str, pod: P, now: float) -> list[P]:
        """A pod that was not known, in use as by `take`. Returns what has to go for it."""
        self._use(endpoint, _Entry(pod), now)
        return self._surplus()

    def give_back(self, endpoint: str, pod: P) -> list[P]:
        """The request is over. Returns what need not be kept any longer."""
        entry = self._entries.get(endpoint)
        if entry is not None and entry.pod is pod:
            entry.users -= 1
            return [] if len(self._entries) <= self._most else self._surplus()
        leaving = self._leaving.get(id(pod))
        if leaving is None:
            return []
        leaving.users -= 1
        if leaving.users:
            return []
        del self._leaving[id(pod)]
        return [pod]

    def drop(self, endpoint: str, pod: P) -> None:
        """The pod cannot be reached: whoever is sent there next begins anew."""
        entry = self._entries.get(endpoint)
        if entry is not None and entry.pod is pod:
            del self._entries[endpoint]
            self._leaving[id(pod)] = entry

    def expire(self, now: float) -> list[P]:
        """Those that have not been chosen for too long. Cheap where it is too early to look."""
        if now < self._next_look:
            return []
        old: list[P] = []
        for endpoint, entry in list(self._entries.items()):
            if entry.chosen_at + self._idle_timeout > now:
                break
            if not entry.users:
                del self._entries[endpoint]
                old.append(entry.pod)
        self._next_look = now + self._idle_timeout / 4 if self._entries else float("inf")
        return old

    def clear(self) -> list[P]:
        """Every pod, in use or not; the table is empty."""
        entries = [*self._entries.values(), *self._leaving.values()]
        self._entries.clear()
        self._leaving.clear()
        return [entry.pod for entry in entries]

    def pods(self) -> dict[str, P]:
        """By endpoint, as they are now."""
        return {endpoint: entry.pod for endpoint, entry in self._entries.items()}

    def _use(self, endpoint: str, entry: _Entry[P], now: float) -> None:
        entry.users += 1
        entry.chosen_at = now
        self._entries[endpoint] = entry
        self._next_look = min(self._next_look, now + self._idle_timeout)

    def _surplus(self) -> list[P]:
        found: list[P] = []
        for endpoint, entry in list(self._entries.items()):
            if len(self._entries) <= self._most:
                break
            if not entry.users:
                del self._entries[endpoint]
                found.append(entry.pod)
        return found
