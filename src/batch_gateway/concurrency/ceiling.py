"""How many a gateway accepts, or how fast, as its refusals tell.

Refusals have three causes, each with an answer of its own: a full gateway (a ceiling, in
`rank_step.py`), a quota (a pace, in `pace.py`), and chance (patience). And a gateway may accept
nobody at all, which is what this file is about, beside the order in which sends are judged.

| state | event | next | what is done |
|---|---|---|---|
| QUIET | a refusal | WATCHED | every send is written down and judged in its order |
| WATCHED | a refusal | WATCHED | as many in flight as it met, until those before it are judged |
| WATCHED | refused at fewer and fewer in flight, or with nothing else in flight | SHUT | pause |
| SHUT | another refusal | SHUT | pause twice as long, or as long as the gateway asks |
| SHUT | a try is accepted | REOPENING | after 5 s, how many were accepted since the last time |
| REOPENING | acceptances | REOPENING | as many more at once as were accepted |
| REOPENING | 200 acceptances | WATCHED | |
| WATCHED | 400 sends unrefused, neither ceiling nor pace | QUIET | nothing is written down |
"""

from __future__ import annotations

import math
from collections import deque

from batch_gateway.concurrency.events import Started
from batch_gateway.concurrency.pace import Pace
from batch_gateway.concurrency.rank_step import RankStep
from batch_gateway.concurrency.reasons import Reason, Why

__all__ = ["Ceiling"]

_REFUSAL_TIMES = 4  # usual times of a refusal after which none is expected any more
_SOONEST = 0.02  # seconds
_LATEST = 512  # sends whose refusal may still come when nothing was refused before
_CALM = 400  # sends without a refusal; at 0.5 % of chance one in seven such rows has none
_SHUT = 8.0  # log odds (3,000 to 1) that refusals on end are no chance
_FIRST, _LONGEST = 0.25, 2.0  # seconds of a pause; a gateway that comes back is soon noticed
_AGAIN = 0.75  # of the time that a pause took; chance does not take long
_ASKED = 300.0  # seconds; nobody is to wait for a day that was asked by mistake
_OUTAGE = 5.0  # seconds with nobody accepted, which is more than a moment
_REOPENING = 200  # acceptances after which a gateway is open again
_APART = 0.5  # of the usual time between two answers: in flight stays what it was, nearly
_LONGEST_APART = 1.0  # seconds
_ANSWERS = 16  # over which their rate is measured


class Ceiling:
    """How many may be in flight, and when the next may be sent, by what was refused.

    `limit` changes with time alone too: it is to be asked again when `paused_until` has passed.

    Attributes:
        paused_until: monotonic seconds before which nothing is to be sent.
    """

    def __init__(self, minimum: int = 1) -> None:
        self.paused_until = 0.0
        self._minimum = minimum
        self._step = RankStep(minimum)
        self._pace = Pace()
        self._in_flight = 0
        # What is known while nothing is refused.
        self._watching = False
        self._latest: deque[Started] = deque(maxlen=_LATEST)
        # Sends in order that may still be refused, and what is known of some before their turn.
        self._pending: dict[int, Started] = {}
        self._known: dict[int, bool] = {}
        self._calm = 0
        self._highest = 0  # rank since the last refusal
        self._counted_at = -math.inf  # when a refusal that counts for the pace was sent
        self._usual = 0.005  # seconds that a refusal takes
        self._rate = 1.0  # answers a second
        self._answers = 0
        self._measured_at = 0.0
        self._held, self._held_until = math.inf, 0.0
        self._on_end = 0
        # Whether anybody is accepted.
        self._shut_at: float | None = None
        self._surely_shut = False
        self._row = 0  # refusals, each with fewer in flight than the one before
        self._row_rank = 0
        self._row_chance = 1.0
        self._pause = _FIRST
        self._paused_at = 0.0
        self._reopened: int | None = None  # acceptances since
        self._taken = 0  # sends that were not refused
        self._opened: tuple[float, int] | None = None  # when, after an outage, and taken by then

    # -- what is told ----------------------------------------------------------------------

    def sent(self, started: Started, now: float) -> None:
        self._taken += 1
        if not self._watching:
            self._latest.append(started)
            return
        self._in_flight = started.rank
        self._pending[id(started)] = started
        self._judge(now)
        due = self._pace.sent(now)
        if self._step.apart:
            due = max(due, now + min(_LONGEST_APART, _APART / max(self._rate, 1e-9)))
        if self._probing and self._room() <= 0:
            due = max(due, now + self._late())
        self.paused_until = max(self.paused_until, due)

    def refused(self, started: Started, retry_after: float | None, now: float, rate: float) -> None:
        """`retry_after`: seconds that the gateway asks to wait; `rate`: answers a second."""
        if not self._watching:
            self._watch(now, rate)
        self._usual += 0.2 * (now - started.at - self._usual)
        self._taken -= 1
        self._ended(started, refused=True)
        self._hold(started.rank, now)
        self._count_row(started, min(_ASKED, retry_after or 0.0), now)
        self._judge(now)

    def answered(self, started: Started, now: float) -> None:
        """It was accepted, and its answer is complete."""
        if not self._watching:
            return
        self._ended(started, refused=False)
        self._answers += 1
        if self._answers >= _ANSWERS and now > self._measured_at:
            self._rate = self._answers / (now - self._measured_at)
            self._answers, self._measured_at = 0, now
        self._judge(now)

    def failed(self, started: Started, now: float) -> None:
        """It ended otherwise: whether there was room is not known."""
        if self._watching:
            self._in_flight -= 1
            self._pending.pop(id(started), None)
            self._judge(now)

    def limit(self, now: float) -> float:
        """How many may be in flight; infinity while there is no ceiling."""
        if not self._watching:
            return math.inf
        self._judge(now)
        limit = self._step.limit(now)
        if now < self._held_until:
            limit = min(limit, self._held)
        if self._probing:
            limit = min(limit, self._in_flight + max(0, self._room()))
        return max(self._minimum, limit)

    def why(self, now: float) -> Why | None:
        """What holds the limit or the sending back, if anything does."""
        if self._shut_at is not None and self._surely_shut:
            return Why(Reason.SHUT, max(0.0, self.paused_until - now))
        if self._pace.keeps:
            return Why(Reason.PACE, 60 * self._pace.per_second)
        if self._step.top < math.inf and self.limit(now) >= self._step.top:
            return Why(Reason.CEILING, self._step.top)
        # What is held back for a moment is a guess, and no reason.
        return None

    # -- in the order of sending -----------------------------------------------------------

    def _late(self) -> float:
        return max(_SOONEST, _REFUSAL_TIMES * self._usual)

    def _watch(self, now: float, rate: float) -> None:
        self._watching = True
        late = now - self._late()
        self._pending = {id(started): started for started in self._latest if started.at > late}
        self._in_flight = self._latest[-1].rank if self._latest else 1
        self._latest.clear()
        self._calm = self._highest = 0
        self._rate = rate
        self._answers, self._measured_at = 0, now

    def _rest(self, now: float) -> None:
        """Write nothing down any more where nothing is left that limits."""
        self._step.rest(self._highest, now)
        self._calm = self._highest = 0
        limited = self._step.top < math.inf or self._pace.per_second < math.inf
        if limited or self._probing or self._known:
            return
        self._watching = False
        self._latest.extend(self._pending.values())
        self._pending = {}

    def _ended(self, started: Started, *, refused: bool) -> None:
        self._in_flight -= 1
        if id(started) in self._pending:
            self._known[id(started)] = refused

    def _judge(self, now: float) -> None:
        """Those whose turn it is: refused, answered, or sent too long ago to be refused yet."""
        late = now - self._late()
        pending, known = self._pending, self._known
        while pending:
            key = next(iter(pending))
            started = pending[key]
            if started.at > late and key not in known:
                return
            del pending[key]
            if known.pop(key, False):
                self._judge_refused(started, now)
            else:
                self._judge_accepted(started, now)
            pending = self._pending

    def _judge_refused(self, started: Started, now: float) -> None:
        self._calm = self._highest = 0
        tried = started.rank > self._step.top
        shut = self._shut_at is not None and started.at > self._shut_at
        if shut and not self._pace.keeps:
            return
        if not shut and self._step.refused(started.rank, now, self._rate):
            self._pace.explained()
        # What is refused at one moment counts once, and what a try above the ceiling meets never.
        if not tried and started.at - self._counted_at > self._late():
            self._pace.judged(started.at, refused=True)
            self._counted_at = started.at

    def _judge_accepted(self, started: Started, now: float) -> None:
        self._row = self._on_end = 0
        self._held_until = min(self._held_until, now + self._late())
        if self._shut_at is not None and started.at >= self._paused_at:
            self._reopen(started, self._shut_at)
        if self._reopened is not None:
            self._reopened += 1
            if self._reopened > _REOPENING:
                self._reopened = None
        self._step.accepted(started.rank, now)
        self._pace.judged(started.at, refused=False)
        self._calm += 1
        self._highest = max(self._highest, started.rank)
        if self._calm > _CALM:
            self._rest(now)

    # -- braking ---------------------------------------------------------------------------

    def _hold(self, rank: int, now: float) -> None:
        """Until those that were sent before are judged, no more in flight than it met.

        Refusals on end hold for twice as long each, but where chance would make them add up.
        """
        held = rank - 1
        self._held = min(self._held, held) if now < self._held_until else held
        growth = min(2.0, max(1.0, 0.5 / self._step.chance))
        late = self._late()
        self._held_until = now + min(max(late, _LONGEST), late * growth**self._on_end)
        self._on_end = min(10, self._on_end + 1)

    def _count_row(self, started: Started, asked: float, now: float) -> None:
        """Refusals on end, each with fewer in flight than the one before: is nobody accepted?"""
        if self._shut_at is None:
            if self._row == 0:
                self._row_chance = self._step.chance
            if self._row == 0 or started.rank < self._row_rank:
                self._row += 1
                self._row_rank = started.rank
            sure = -self._row * math.log(self._row_chance) > _SHUT
            if not sure and self._in_flight >= self._minimum:
                return
            # It may be a full gateway after all, and what is asked then is that request's affair.
            asked = 0.0
            self._shut_at, self._surely_shut = now, sure
        elif started.at < self._paused_at:
            return
        else:
            self._surely_shut = True
        self._reopened = None
        self._paused_at = now
        self.paused_until = max(self.paused_until, now + max(asked, self._pause))
        self._pause = min(_LONGEST, 2 * self._pause)

    @property
    def _probing(self) -> bool:
        return self._shut_at is not None or self._reopened is not None

    def _room(self) -> int:
        """How many more may be sent before it is known whether the others are accepted: one in
        all while nobody is, then as many as were accepted since (the slow start of TCP)."""
        return 1 + (self._reopened or 0) - len(self._pending)

    def _reopen(self, started: Started, shut_at: float) -> None:
        seconds = started.at - shut_at
        self._shut_at = None
        self._reopened = 0
        # The next time it may take as long, or a little less.
        self._pause = min(_LONGEST, max(_FIRST, _AGAIN * seconds))
        if seconds < _OUTAGE:
            return
        before, self._opened = self._opened, (started.at, self._taken)
        if before is not None:
            self._pace.window(self._taken - before[1], started.at - before[0], started.at)
