"""The adaptive controller: from what each request met to how many may be under way."""

from __future__ import annotations

from typing import Protocol

from batch_gateway.concurrency.ceiling import Ceiling
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.failures import Failures
from batch_gateway.concurrency.finder import Finder
from batch_gateway.concurrency.guard import Guard
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.rounds import Reading, Round, TypicalLength
from batch_gateway.concurrency.server_load import Advice

__all__ = ["AdaptiveController", "Bounds"]

_OK = Outcome.OK
# Of the limit: a round that used less tells nothing of it. One of two is less, two of three are
# not.
_USED, _ROUNDING = 0.8, 0.4
_HELD = 0.9  # of the limit; with fewer, what holds them back is no moment's affair
_METRICS, _OTHERS, _BOUND = Why(Reason.METRICS), Why(Reason.OTHERS), Why(Reason.BOUND)


class Bounds(Protocol):
    """What is wanted of the limit; see `AdaptiveConcurrency` for each."""

    @property
    def initial(self) -> int: ...

    @property
    def minimum(self) -> int: ...

    @property
    def maximum(self) -> int: ...

    @property
    def worthwhile(self) -> float: ...


class AdaptiveController:
    """Finds how many requests may be under way, from how each of them ended. No I/O, no clock:
    the caller says what time it is, in seconds that never go back.

    Parts that know nothing of each other each have one number, and the least is the limit:

    - the `Finder`, how many pay: it learns from rounds, each a `Reading` of how long a typical
      answer takes at so many in flight, and of how many only wait (`Waits`);
    - the `Ceiling`, how many are accepted, and how fast;
    - the `Guard`, how many leave others on the same server their room;
    - advice, what the gateway's own metrics say, where somebody looks at them.

    | what happens | what follows |
    |---|---|
    | a round ends | `Finder.step`: see `MOVES` there |
    | a round ends, and less was sent than was allowed | the finder learns nothing |
    | the metrics allow less, or know that more fit | the finder holds there |
    | ten failures on end | the finder holds at half |
    | the first answer after that | the finder climbs from half of what was |

    Attributes:
        limit: how many may be under way.
        allowed_now: how many just now, while some of them wait for their first token.
        in_flight: how many are.
        why: why no more may be under way.
    """

    def __init__(self, policy: Bounds) -> None:
        self._policy = policy
        self._now = self._area = 0.0
        self.in_flight = 0
        self._typical = TypicalLength()
        self._finder = Finder(policy.worthwhile, policy.initial, policy.minimum, policy.maximum)
        self._ceiling = Ceiling(policy.minimum)
        self._guard = Guard()
        self._failures = Failures()
        self._advice = Advice()
        self._reading: Reading | None = None
        self.limit = self.allowed_now = policy.initial
        self.why = self._finder.why
        self._begin_round(0.0)

    @property
    def paused_until(self) -> float:
        """Seconds before which nothing is to be sent."""
        return self._ceiling.paused_until

    # -- events ----------------------------------------------------------------------------

    def started(self, now: float) -> Started:
        self._area += self.in_flight * (now - self._now)
        self._now = now
        self.in_flight += 1
        started = Started(now, self._area, self.in_flight)
        self._ceiling.sent(started, now)
        if self._guard.listens:
            self._guard.sent(started, self.in_flight, now)
        return started

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self._area += self.in_flight * (now - self._now)
        self._now = now
        self.in_flight -= 1
        started.outcome = ended.outcome
        if ended.outcome is _OK:
            self._answered(started, ended, now)
        elif ended.outcome is Outcome.REFUSED:
            self._ceiling.refused(started, ended.retry_after, self.in_flight, now)
        else:
            self._failed(started, ended.outcome, now)
        if self._guard.listens:
            self._guard.ended(started, ended.outcome is _OK, self.in_flight, now)
        self._set_limit(now)

    def first_token(
        self, started: Started, seconds: float, now: float, heard_after: float = 0.0
    ) -> None:
        """The first token of a streamed answer was heard just now, so many seconds after it was
        sent, and `heard_after` of them after it had come, because this process was busy."""
        if self._guard.first_token(started, seconds, self.in_flight, now, heard_after):
            self._set_limit(now)
        elif self._guard.watches:
            self._set_allowed_now()

    def look(self, now: float) -> None:
        """A pause is over: how many are accepted may be known better by now."""
        self._set_limit(now)

    def advise(self, advice: Advice, now: float) -> None:
        """Go by it until told otherwise, by whoever sees more of the gateway than we do."""
        self._advice = advice
        level = self._finder.level
        fits = min(advice.most, max(advice.least, level))
        if fits != level:
            self._finder.hold(fits, Reason.METRICS if fits < level else Reason.KNEE)
            self._begin_round(now)
        self._set_limit(now)

    # -- answers, refusals, failures -------------------------------------------------------

    def _failed(self, started: Started, outcome: Outcome, now: float) -> None:
        if outcome is Outcome.ABANDONED:
            return
        if self._failures.failed(started.at, self._finder.number, now):
            self._finder.hold(self._finder.number / 2, Reason.FAILING)
            self._begin_round(now)

    def _answered(self, started: Started, ended: Ended, now: float) -> None:
        if allowed := self._failures.answered(started.at):
            self._finder.restart(max(allowed, self._finder.number))
            self._begin_round(now)
        self._typical.learn(ended.tokens)
        current = self._round
        if started.at < current.counts_from:
            return
        latency = max(1e-6, now - started.at)
        current.add(latency, ended.tokens, max(1.0, (self._area - started.area) / latency))
        if current.is_over(self.allowed_now, now):
            self._learn(current, now)

    # -- rounds ----------------------------------------------------------------------------

    def _learn(self, done: Round, now: float) -> None:
        self._reading = reading = done.reading()
        tokens = self._typical.tokens
        self._ceiling.rate = rate = reading.rate(tokens)
        self._guard.learn(rate)
        unused = reading.in_flight < _USED * min(self.allowed_now, done.turn) - _ROUNDING
        held = self.allowed_now < self.limit and reading.in_flight < _HELD * self.limit
        if unused or self._guard.room < self._finder.level or (held and not self._guard.queues):
            self._finder.skip()
        elif held:
            # More of ours would wait for their first token than may: here is the knee.
            self._finder.hold(reading.in_flight, Reason.QUEUE)
        else:
            self._finder.step(reading, tokens)
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        self._set_limit(now)
        self._round = Round(
            self._reading,
            self._typical.tokens,
            now,
            limit=self.allowed_now,
            climbs=self._finder.climbs,
        )

    # -- the limit -------------------------------------------------------------------------

    def _set_limit(self, now: float) -> None:
        level = self._finder.level
        accepted = self._ceiling.limit(self.in_flight, now)
        allowed = min(accepted, self._advice.most, self._guard.room)
        limit = level if level <= allowed else max(self._policy.minimum, int(allowed))
        self.limit = self.allowed_now = limit
        if self._guard.watches:
            self._set_allowed_now()
        why = self._ceiling.why(accepted, now)
        if why is None or (why.reason is Reason.CEILING and accepted > level):
            why = self._why_not_more(level)
        # Whoever tells of it looks at the object first.
        if why is not self.why and why != self.why:
            self.why = why

    def _set_allowed_now(self) -> None:
        placed = self._guard.allowed_now(self.in_flight)
        self.allowed_now = max(self._policy.minimum, min(self.limit, placed))

    def _why_not_more(self, level: int) -> Why:
        if self._advice.most < level:
            return _METRICS
        if self._guard.room < level:
            return _OTHERS
        return _BOUND if level >= self._policy.maximum else self._finder.why
