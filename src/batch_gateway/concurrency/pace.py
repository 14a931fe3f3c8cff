"""Whether refusals go by the rate of sending, and how fast to send then.

| state | event | next | what is done |
|---|---|---|---|
| FREE | surely too many are refused | TRIAL | a tenth fewer a second than were accepted |
| TRIAL | surely fewer are refused | PACED | up again to what was accepted |
| TRIAL | surely as many are refused | FREE | chance: twice as long until the next trial |
| PACED | hardly any is refused | PACED | a little faster, in growing steps |
| PACED | some are refused | PACED | a little slower than what was accepted |
| PACED | as many are refused after a cut as before | FREE | chance after all |
| PACED | not half as many are sent | FREE | the pace holds nothing back |
| any | the gateway took as many again until it took none | PACED | as many in as long a time |
"""

from __future__ import annotations

import math
from enum import Enum

from batch_gateway.concurrency.rank_step import SURE

__all__ = ["Pace"]

_SLOWER = 0.9  # of what was accepted, for a trial: shows in a hundred sends, and costs ten
_FEWER = 0.2  # of the refusals are left then, if they go by the rate
_UNDECIDED = 25  # refusals that would have been met without the trial; half as many is no quota
_MANY = 0.04  # share of refusals that is worth a trial; a quota may cost a twentieth
_CERTAIN = 1.6  # by which the root of a Poisson count exceeds that of its mean once in 1,500
# Accepted between two refusals, to know a rate; fewer where it takes long.
_ACCEPTED, _LEAST_ACCEPTED, _LONG_ENOUGH = 8, 3, 5.0
_ANOTHER_STORY = 600  # sends after which earlier refusals say nothing
_PATIENCE = 64  # windows of `_MANY` at most between two trials
_FINE = 0.02  # share of refusals at which a pace still rises
_BACK = 0.97  # of what was accepted: a margin, so that a bucket fills again
# A pace is looked at every 20 seconds, or 4 to 50 sends, or three refusals.
_SECONDS, _FEW, _WINDOW, _ENOUGH = 20.0, 4, 50, 3
# Steps double every 20 seconds while nothing is refused: a quota costs few refusals, and a pace
# that is no longer needed is left behind in minutes.
_STEP, _LONGEST_STEP = 0.01, 3.0
_CLIMB = 0.1  # up to what was accepted before the trial
_STEADY = 1.02  # a pace within this of the last cut ought to be refused no more
_LATE = 0.01  # seconds by which timers may be late without a loss
_ALIKE = 0.03  # share by which what a quota takes in two windows may differ
_LEAST_WINDOW = 8  # accepted; so few are alike by chance
_WEIGHT = 4  # sends by which a rate that was seen for short is drawn to the pace


class _State(Enum):
    FREE = "no pace"
    TRIAL = "sends more slowly for once"
    PACED = "keeps to a pace"


class Pace:
    """Sends a second that are accepted; infinity while refusals do not go by the rate."""

    def __init__(self) -> None:
        self._state = _State.FREE
        self.per_second = math.inf
        self._due = 0.0
        self._odds = 0.0  # log odds that refusals go by the rate
        self._null = 0.0  # share refused before the trial
        self._goal = 0.0  # sends a second that were accepted before the trial
        self._step = _STEP
        self._calm = 0.0  # sends a second that ought not to be refused, since the last cut
        self._usual = (1.0, float(_WINDOW))  # refused and sent at this pace
        self._found = 0.0  # sends a second that were accepted when the pace began
        self._patience = 1
        self._skip = 0
        self._unexplained = _ANOTHER_STORY
        self._last_window: int | None = None
        self._begin()

    @property
    def keeps(self) -> bool:
        """Whether it is known to help; a trial is not."""
        return self._state is _State.PACED

    def sent(self, now: float) -> float:
        """Monotonic seconds before which the next one is not to be sent."""
        if self.per_second == math.inf:
            return 0.0
        self._due = max(self._due, now - _LATE) + 1 / self.per_second
        return self._due

    def judged(self, at: float, *, refused: bool) -> None:
        """What was sent at `at` was accepted, or refused; in order of sending."""
        self._unexplained += 1
        if self._state is _State.FREE and not self._refused and not refused:
            return
        self._count(at, refused=refused)
        if self._state is _State.TRIAL:
            self._try(refused=refused)
        elif self._state is _State.PACED:
            self._doubt(refused=refused)
            self._adjust(at)
        elif refused:
            self._consider()

    def explained(self) -> None:
        """A ceiling was found that explains what was refused; if not, more will be refused."""
        if self._state is _State.FREE and self._unexplained > _ANOTHER_STORY:
            self._unexplained = 0
            self._begin()

    def window(self, accepted: int, seconds: float) -> None:
        """So many were accepted in so long, until nobody was and then somebody again.

        A quota that starts anew each minute looks like an outage each minute, but for this: as
        many are accepted each time.
        """
        before, self._last_window = self._last_window, accepted
        if before is None or accepted < _LEAST_WINDOW:
            return
        if abs(accepted - before) <= _ALIKE * accepted:
            self._keep(_BACK * accepted / seconds, 0.0)

    # -- counting --------------------------------------------------------------------------

    def _begin(self) -> None:
        self._sent = self._refused = 0
        self._began = -math.inf
        self._first = self._last = 0.0  # times of the first and the last refusal
        self._between = self._since = 0  # accepted between the two, and after the last

    def _count(self, at: float, *, refused: bool) -> None:
        self._sent += 1
        if self._began == -math.inf:
            self._began = at
        if not refused:
            self._since += 1
            return
        if not self._refused:
            self._first, self._since = at, 0
        self._refused += 1
        self._last = at
        self._between += self._since
        self._since = 0

    # -- deciding --------------------------------------------------------------------------

    def _consider(self) -> None:
        surely = max(0.0, math.sqrt(self._refused) - _CERTAIN) ** 2
        span = self._last - self._first
        known = self._between >= _ACCEPTED or (
            self._between >= _LEAST_ACCEPTED and span >= _LONG_ENOUGH
        )
        if surely <= _MANY * self._sent or not known or span <= 0:
            if self._sent > _ANOTHER_STORY:
                self._begin()
            return
        if self._skip > 0:
            self._skip -= 1
            self._begin()
            return
        # From refusal to refusal, so that what a quota had saved up before does not count.
        accepted = self._between / span
        # A trial begins where many happen to be refused: fewer than that is the rule.
        self._null = (math.sqrt(self._refused) - _CERTAIN / 2) ** 2 / self._sent
        self._odds = 0.0
        self._state = _State.TRIAL
        self.per_second = min(_SLOWER, 1 - 1 / self._between) * accepted
        self._goal = _BACK * accepted
        self._step = min(_CLIMB, max(_STEP, 1 / self._between))
        self._begin()

    def _try(self, *, refused: bool) -> None:
        self._odds += _evidence(self._null, refused=refused)
        if self._odds > SURE:
            self._keep(self.per_second, self._goal)
        elif self._odds < -SURE / 2 or self._sent * self._null > _UNDECIDED:
            self._drop()

    def _keep(self, per_second: float, goal: float) -> None:
        if goal == 0.0:
            self._step = _STEP
        self._state = _State.PACED
        self.per_second, self._goal = per_second, goal
        self._calm = 0.0
        self._usual = (1.0, float(_WINDOW))
        self._found = max(goal, per_second)
        self._odds = SURE
        self._begin()

    def _drop(self) -> None:
        """They are refused by chance after all."""
        self._patience = min(_PATIENCE, 2 * self._patience)
        self._skip = self._patience
        self._release()

    def _release(self) -> None:
        self._state = _State.FREE
        self.per_second = math.inf
        self._begin()

    def _doubt(self, *, refused: bool) -> None:
        """Whether as many are refused after a cut as else, and so not by the rate."""
        bad, sent = self._usual
        share = (bad + refused) / (sent + 1)
        half = 0.5 if sent > 8 * _WINDOW else 1.0
        self._usual = ((bad + refused) * half, (sent + 1) * half)
        if self.per_second > self._calm:
            return
        self._odds = min(SURE, self._odds + _evidence(share, refused=refused))
        if self._odds == SURE:
            self._patience = 1
        elif self._odds < -SURE / 2:
            self._drop()

    def _adjust(self, at: float) -> None:
        if self._state is not _State.PACED:
            return
        below = self.per_second < self._goal
        window = _FEW if below else min(_WINDOW, max(_FEW, _SECONDS * self.per_second))
        if self._sent < window and self._refused < _ENOUGH:
            return
        if self._refused > _FINE * self._sent:
            self._cut()
        elif self._sent < 0.5 * self.per_second * (at - self._began):
            self._release()
            return
        elif below:
            self.per_second = min(self._goal, self.per_second * (1 + _CLIMB))
        else:
            self.per_second *= 1 + self._step
            growth = 2.0 ** min(2.0, (at - self._began) / _SECONDS)
            self._step = min(_LONGEST_STEP, self._step * growth)
        self._begin()

    def _cut(self) -> None:
        span = self._last - self._first
        found = (self._between + _WEIGHT) / (span + _WEIGHT / self.per_second)
        self.per_second = _BACK * min(self.per_second, found)
        # What it took once it will take again, whatever a moment has shown.
        self._step, self._goal = _STEP, _BACK * self._found
        self._calm = max(_STEADY * self.per_second, self._goal)


def _evidence(share: float, *, refused: bool) -> float:
    """How one send moves the log odds that a slower pace left a fifth of the refusals."""
    share = min(0.9, share)
    return math.log(_FEWER if refused else (1 - _FEWER * share) / (1 - share))
