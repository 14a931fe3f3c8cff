"""A client with lines enough against small servers that refuse; time is made up."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from batch_gateway.concurrency.ceiling import Ceiling
from batch_gateway.concurrency.events import Outcome, Started
from batch_gateway.concurrency.reasons import Reason, Why

REFUSAL_SECONDS = 0.006

# Asked with the number that are being served and the time: None accepts, a number refuses and
# asks to wait as long (0 for nothing asked).
Rule = Callable[[int, float], float | None]


class Run:
    """Keeps as many in flight as are wanted and allowed."""

    def __init__(self, rule: Rule, *, wanted: int = 64, latency: float = 1.0, seed: int = 1):
        self.rule, self.wanted, self.latency = rule, wanted, latency
        self.ceiling = Ceiling()
        self.ceiling.rate = wanted / latency
        self.now = 0.0
        self.sent = self.refused = self.answered = 0
        self.most = 0
        self._wakes_at = 0.0
        self._serving = self._in_flight = 0
        self._draws = random.Random(seed)
        self._heap: list[tuple[float, int, Started | None, bool]] = []
        self._order = 0

    def run(self, until: float) -> Run:
        self._fill()
        while self._heap and self._heap[0][0] < until:
            self.now, _, started, accepted = heapq.heappop(self._heap)
            if started is not None:
                self._end(started, accepted)
            self._fill()
        self.now = until
        return self

    def counts_from_here(self) -> Run:
        self.sent = self.refused = self.answered = 0
        self.most = 0
        return self

    @property
    def limit(self) -> float:
        return self.ceiling.limit(self._in_flight, self.now)

    @property
    def why(self) -> Why | None:
        return self.ceiling.why(self.limit, self.now)

    @property
    def reason(self) -> Reason | None:
        return self.why and self.why.reason

    def _end(self, started: Started, accepted: bool) -> None:
        self._in_flight -= 1
        if accepted:
            # By Little's law.
            self.ceiling.rate = self._serving / self.latency
            self._serving -= 1
            self.answered += 1
        else:
            self.refused += 1
            started.outcome = Outcome.REFUSED
            self.ceiling.refused(started, self._asked, self._in_flight, self.now)

    def _fill(self) -> None:
        while self._in_flight < min(self.wanted, self.limit):
            if self.ceiling.paused_until > self.now:
                break
            self._send()
        paused_until = self.ceiling.paused_until
        if paused_until > self.now and not self.now < self._wakes_at <= paused_until:
            self._wakes_at = paused_until
            self._later(paused_until, None, False)

    def _send(self) -> None:
        self._in_flight += 1
        self.sent += 1
        self.most = max(self.most, self._in_flight)
        started = Started(self.now, 0.0, self._in_flight)
        self.ceiling.sent(started, self.now)
        asked = self.rule(self._serving, self.now)
        self._asked = asked or None
        if asked is None:
            self._serving += 1
            seconds = self.latency * (0.5 + self._draws.random())
            self._later(self.now + seconds, started, True)
        else:
            self._later(self.now + REFUSAL_SECONDS, started, False)

    def _later(self, at: float, started: Started | None, accepted: bool) -> None:
        self._order += 1
        heapq.heappush(self._heap, (at, self._order, started, accepted))


def accepts_all(serving: int, now: float) -> float | None:
    return None


def refuses_all(serving: int, now: float) -> float | None:
    return 0.0


def seats(count: int) -> Rule:
    return lambda serving, now: None if serving < count else 0.0


def chance(share: float, seed: int = 1, asks: float = 0.0) -> Rule:
    draws = random.Random(f"{seed}:chance")
    return lambda serving, now: asks if draws.random() < share else None


def bucket(per_second: float, burst: float, asks: float = 0.0) -> Rule:
    """So many a second, and `burst` at once."""
    tokens, since = burst, 0.0

    def rule(serving: int, now: float) -> float | None:
        nonlocal tokens, since
        tokens = min(burst, tokens + per_second * (now - since))
        since = now
        if tokens < 1:
            return asks
        tokens -= 1
        return None

    return rule


def window(count: int, seconds: float, *, tells: bool = False) -> Rule:
    """So many in each window of so many seconds, on the clock."""
    used, number = 0, -1

    def rule(serving: int, now: float) -> float | None:
        nonlocal used, number
        if now // seconds != number:
            used, number = 0, int(now // seconds)
        if used >= count:
            return (number + 1) * seconds - now if tells else 0.0
        used += 1
        return None

    return rule


def both(first: Rule, second: Rule) -> Rule:
    def rule(serving: int, now: float) -> float | None:
        refused = first(serving, now)
        return second(serving, now) if refused is None else refused

    return rule


def switching(*parts: tuple[float, Rule]) -> Rule:
    """Each rule from its second on."""

    def rule(serving: int, now: float) -> float | None:
        return [part for begins, part in parts if begins <= now][-1](serving, now)

    return rule
