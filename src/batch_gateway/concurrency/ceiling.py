"""How many a gateway accepts, or how fast, as its refusals tell.

Refusals have three causes, each with an answer of its own: a full gateway (a ceiling, in
`rank_step.py`), a quota (a pace, in `pace.py`), and chance (patience). And a gateway may accept
nobody at all, which is what this file is about, beside the order in which sends are judged.

| state | event | next | what is done |
|---|---|---|---|
| QUIET | a refusal | WATCHED | every send is judged in its order |
| WATCHED | a refusal | WATCHED | fewer in flight than it met, until those before it are judged |
| WATCHED | refusals on end, surely no chance, or one with nothing else in flight | SHUT | pause |
| WATCHED | one after as many as a quota took until the last time | SHUT | pause |
| SHUT | another refusal | SHUT | pause twice as long, or as long as the gateway asks |
| SHUT | a try is accepted | REOPENING | after 5 s, how many were accepted since the last time |
| REOPENING | acceptances | REOPENING | as many more at once as were accepted |
| REOPENING | 200 acceptances | WATCHED | |
| WATCHED | 1,000 sends unrefused, and no pace | QUIET | any ceiling is forgotten |
"""

from __future__ import annotations

import math
from collections import deque

from batch_gateway.concurrency.events import Outcome, Started
from batch_gateway.concurrency.pace import Pace
from batch_gateway.concurrency.rank_step import RankStep
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.sequential_test import LIKELY, SURE

__all__ = ["Ceiling"]

_REFUSAL_TIMES = 4  # usual times of a refusal after which none is expected any more
_SOONEST = 0.02  # seconds
_SLOWEST = 60.0  # seconds; a refusal that took a day once is no measure for the next
_AFTER = 1.05  # of that time, so that a try is judged when the next may be sent
_CALM = 1_000  # sends without a refusal: some tries above a ceiling would have been among them
_FIRST, _LONGEST = 0.25, 2.0  # seconds of a pause; a gateway that comes back is soon noticed
_ASKED = 300.0  # seconds; nobody is to wait for a day that was asked by mistake
_CHANCE = 0.3  # at most, of a refusal in a row: a row makes chance look greater than it is
_OUTAGE = 5.0  # seconds with nobody accepted, which is more than a moment
_REOPENING = 200  # acceptances after which a gateway is open again
_APART = 0.5  # of the usual time between two answers: in flight stays what it was, nearly
_LONGEST_APART = 1.0  # seconds
_ACCEPTED = (None, Outcome.OK)  # where no refusal came in time


class Ceiling:
    """How many may be in flight, and when the next may be sent, by what was refused.

    `limit` changes with time alone too: it is to be asked again when `paused_until` has passed.

    Attributes:
        paused_until: monotonic seconds before which nothing is to be sent.
        rate: answers a second; set by whoever measures it.
    """

    def __init__(self, minimum: int = 1) -> None:
        self.paused_until = 0.0
        self.rate = 1.0
        self._minimum = minimum
        self._step = RankStep(minimum)
        self._pace = Pace()
        self._taken = 0  # sends that were not refused
        self._pending: deque[Started] = deque()  # sends in order that may still be refused
        self._calm = _CALM  # sends since the last refusal
        self._usual = 0.005  # seconds that a refusal takes
        self._counted_at = -math.inf  # when a refusal that counts for the pace was sent
        # Refusals on end, each sent when the one before was known, and what follows at once.
        self._row = 0
        self._braked_at = 0.0
        self._held, self._held_until = math.inf, 0.0
        self._shut_at = 0.0
        self._reopened = math.inf  # acceptances since nobody was; 0 while nobody is

    # -- what is told ----------------------------------------------------------------------

    def sent(self, started: Started, now: float) -> None:
        self._taken += 1
        self._pending.append(started)
        if not self._watches:
            self._judge(now)
            return
        due = self._pace.sent(now)
        if self._step.apart:
            due = max(due, now + min(_LONGEST_APART, _APART / max(self.rate, 1e-9)))
        if self._room() == 0:
            due = max(due, now + _AFTER * self._late())
        self.paused_until = max(self.paused_until, due)

    def refused(
        self, started: Started, retry_after: float | None, in_flight: int, now: float
    ) -> None:
        """It was, as its outcome says, and so many are left; `retry_after`: seconds that are asked
        to be waited."""
        self._calm = 0
        self._taken -= 1
        self._usual += 0.2 * (min(_SLOWEST, now - started.at) - self._usual)
        self._brake(started, min(_ASKED, retry_after or 0.0), in_flight, now)

    def limit(self, in_flight: int, now: float) -> float:
        """How many may be in flight, where so many are; infinity while there is no ceiling."""
        if not self._watches:
            return math.inf
        self._judge(now)
        limit = self._step.limit(now)
        if now < self._held_until:
            limit = min(limit, self._held)
        return max(self._minimum, min(limit, in_flight + self._room()))

    def why(self, limit: float, now: float) -> Why | None:
        """What holds that limit or the sending back, if anything does."""
        if not self._reopened and self._row > 1:
            return Why(Reason.SHUT, max(0.0, self.paused_until - now))
        if self._pace.keeps:
            return Why(Reason.PACE, 60 * self._pace.per_second)
        if self._step.top <= limit < math.inf:
            return Why(Reason.CEILING, self._step.top)
        # What is held back for a moment is a guess, and no reason.
        return None

    # -- in the order of sending -----------------------------------------------------------

    @property
    def _watches(self) -> bool:
        """Whether anything was refused of late."""
        return self._calm < _CALM

    def _late(self) -> float:
        return max(_SOONEST, _REFUSAL_TIMES * self._usual)

    def _judge(self, now: float) -> None:
        """Those whose turn it is: sent too long ago to be refused yet, or known to have been. What
        failed otherwise tells nothing of room."""
        late, pending = now - self._late(), self._pending
        while pending and (pending[0].at <= late or pending[0].outcome not in _ACCEPTED):
            started = pending.popleft()
            if started.outcome is Outcome.REFUSED:
                self._judge_refused(started, now)
            elif started.outcome in _ACCEPTED and self._watches:
                self._judge_accepted(started, now)

    def _judge_refused(self, started: Started, now: float) -> None:
        tried = started.rank > self._step.top
        shut = not self._reopened and started.at > self._shut_at
        if shut and not self._pace.keeps:
            return
        if not shut and self._step.refused(started.rank, now, self.rate):
            self._pace.explained()
        # What is refused at one moment counts once, and what a try above the ceiling meets never.
        if not tried and started.at - self._counted_at > self._late():
            self._pace.judged(started.at, refused=True)
            self._counted_at = started.at

    def _judge_accepted(self, started: Started, now: float) -> None:
        self._row = 0
        if self._reopened:
            self._reopened += 1
        elif started.at >= self._braked_at:
            if started.at - self._shut_at >= _OUTAGE:
                self._pace.reopened(self._taken, started.at)
            self._reopened = 1
        self._step.accepted(started.rank, now)
        self._pace.judged(started.at, refused=False)
        if self._room() == self._pace.per_second == math.inf:
            self._calm += 1
            if not self._watches:
                # A ceiling that nobody met, not even to try for more, is forgotten.
                self._step.forget()

    # -- braking ---------------------------------------------------------------------------

    def _brake(self, started: Started, asked: float, in_flight: int, now: float) -> None:
        """Until those that were sent before are judged, no more in flight than it met; and nothing
        is sent where refusals go on until nothing else is in flight, or no chance explains them."""
        on_end = started.at >= self._braked_at
        if on_end:
            self._row += 1
            self._braked_at = now
        # What was refused makes no room for another: of a quota that is used up, all are refused.
        self._hold(min(started.rank - 1, in_flight), now)
        if self._reopened:
            no_chance = -self._row * math.log(min(_CHANCE, self._step.chance)) > SURE + LIKELY
            surely = no_chance or self._pace.is_used_up(self._taken)
            if not surely and in_flight >= self._minimum:
                return
            # It may be a full gateway after all, and what is asked then is that request's affair.
            self._shut_at, self._reopened, asked = now, 0, 0.0
        elif not on_end:
            return
        pause = min(_LONGEST, _FIRST * 2 ** min(10, self._row - 1))
        self.paused_until = max(self.paused_until, now + max(asked, pause))

    def _hold(self, most: int, now: float) -> None:
        self._held = min(self._held, most) if now < self._held_until else most
        self._held_until = now + self._late()

    def _room(self) -> float:
        """How many more may be sent before it is known whether the others are accepted: one in
        all while nobody is, then as many as were accepted since (the slow start of TCP)."""
        if self._reopened > _REOPENING:
            return math.inf
        return max(0, 1 + self._reopened - len(self._pending))
