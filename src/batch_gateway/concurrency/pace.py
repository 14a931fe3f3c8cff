"""Whether refusals go by the rate of sending, and how fast to send then.

| state | event | next | what is done |
|---|---|---|---|
| FREE | surely too many are refused | TRIAL | a tenth fewer a second than were accepted |
| TRIAL | surely fewer are refused | PACED | nearly what was accepted |
| TRIAL | surely as many are refused | FREE | chance: twice as long until the next trial |
| PACED | none is refused for some time | PACED | faster by growing steps |
| PACED | likely more are refused than chance | PACED | slower by as much, or what it took before |
| PACED | surely too many are refused | TRIAL | a tenth fewer a second than were accepted |
| PACED | not half as many are sent | FREE | the pace holds nothing back |
| any | the gateway took as many again until it took none | PACED | as many in as long a time |
"""

from __future__ import annotations

import math
from enum import Enum

from batch_gateway.concurrency.sequential_test import LIKELY, SURE, evidence

__all__ = ["Pace"]

# Shares of refusals that are too many, and that are not: a quota may cost a twentieth.
_MANY, _FEW = 0.08, 0.02
_OF_A_PACE = 0.5  # of these: a pace is to leave fewer
_SURELY = SURE + LIKELY  # to begin a trial: fewer refusals follow many by chance too
_SLOWER = 0.9  # of what was accepted, for a trial: shows in a hundred sends, and costs ten
_FEWER = 0.2  # of the refusals are left then, if they go by the rate
_UNDECIDED = 25  # refusals that would have been met without the trial; half as many is no quota
_BY_CHANCE = 0.8  # by which the root of a count is too high where a trial begins because of it
_ACCEPTED = 4  # between two refusals, to know a rate
_PATIENCE = 64  # times that too many are refused at most between two trials
_BACK = 0.97  # of what was accepted: a margin, so that a bucket fills again
# A step comes every 25 sends, and steps double every 20 seconds while nothing is refused: a quota
# costs few refusals, and a pace that is no longer needed is left behind in minutes.
_SENDS, _SECONDS = 25, 20.0
_STEP, _LONGEST_STEP = 0.01, 3.0
_LATE = 0.01  # seconds by which timers may be late without a loss
_OFTEN = 0.05  # of sends, refused soon after a cut: such a pace may be none
_MEMORY = 200.0  # sends that a pace is judged by; half as many after a cut show what is chance
_ALIKE = 0.03  # share by which what a quota takes in two windows may differ
_FEWEST = 8  # accepted; so few are alike by chance


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
        self._trouble = 0.0  # log odds that too many are refused
        self._helps = 0.0  # log odds that refusals go by the rate
        self._usual = 0.0  # share refused before the trial
        self._goal = 0.0  # sends a second that were accepted once, nearly
        self._step = _STEP
        self._patience = 1
        self._chance = 0.0  # share refused at a pace that was accepted before
        self._taken, self._opened_at, self._window = 0, 0.0, 0
        self._begin(0.0)

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
        if self._state is _State.FREE and not self._trouble:
            if not refused:
                return
            self._begin(at)
        self._sent += 1
        self._refused += refused
        self._accepted += not refused
        if self._state is _State.PACED:
            self._learn_chance(at, refused=refused)
        share = 1.0 if self._state is _State.FREE else _OF_A_PACE
        many, few = (self._chance + share * one for one in (_MANY, _FEW))
        trouble = self._trouble + evidence(many, few, refused=refused)
        sure = _SURELY * self._patience
        self._trouble = min(sure + 1, max(0.0, trouble))
        if self._state is _State.TRIAL:
            self._try(at, refused=refused)
        elif refused and self._accepted >= _ACCEPTED and self._is_doubtful(sure):
            self._consider(at)
        elif self._state is _State.PACED:
            (self._cut if refused else self._rise)(at)

    def explained(self) -> None:
        """A ceiling was found that explains what was refused; if not, it will come down."""
        if self._state is _State.FREE:
            self._trouble = 0.0

    def reopened(self, taken: int, at: float) -> None:
        """After a time in which it accepted nobody the gateway does again, and has taken so many
        in all.

        A quota that starts anew each minute looks like an outage each minute, but for this: as
        many are accepted each time.
        """
        took, seconds = taken - self._taken, at - self._opened_at
        as_many = self.is_used_up(taken)
        self._taken, self._opened_at, self._window = taken, at, took
        if as_many:
            self._keep(_BACK * took / seconds, at)
        elif self._state is not _State.TRIAL:
            # What was refused meanwhile goes by no rate.
            self._trouble = 0.0
            self._begin(at)

    def is_used_up(self, taken: int) -> bool:
        """Whether it has accepted as many since it was reopened as the time before."""
        took = taken - self._taken
        return took >= _FEWEST and abs(took - self._window) <= max(1, _ALIKE * took)

    # -- deciding --------------------------------------------------------------------------

    def _begin(self, at: float) -> None:
        """Count anew from a moment at which nothing more was accepted."""
        self._since = self._stepped_at = at
        self._sent = self._accepted = self._refused = 0
        self._clean = 0  # accepted since the last refusal or step

    def _learn_chance(self, at: float, *, refused: bool) -> None:
        """What is refused soon after a cut does not go by the rate, but for what is on end."""
        if self._sent < _MEMORY / 2:
            refused = refused and self._clean > 0
            self._chance += (refused - self._chance) / _MEMORY
        elif self._sent > _MEMORY:
            # The pace has risen meanwhile: what was long ago counts less and less.
            self._sent, self._refused, self._accepted = (
                one / 2 for one in (self._sent, self._refused, self._accepted)
            )
            self._since += (at - self._since) / 2

    def _is_doubtful(self, sure: float) -> bool:
        """Whether a trial is due: too many are refused, or chance refuses too many of a pace."""
        return self._trouble > sure or self._chance > _OFTEN

    def _rate(self, at: float) -> float:
        """How many a second were accepted, or refused by chance, since the count began."""
        taken = min(self._sent, self._accepted + self._chance * self._sent)
        return taken / max(at - self._since, 1e-9)

    def _consider(self, at: float) -> None:
        self._trouble = 0.0
        # From refusal to refusal, so that what a quota had saved up before does not count.
        rate, error = self._rate(at), 1 / self._accepted
        # A trial begins where many happen to be refused: fewer than that is the rule.
        self._usual = min(0.9, (math.sqrt(self._refused) - _BY_CHANCE) ** 2 / self._sent)
        self._helps = 0.0
        self._state = _State.TRIAL
        self.per_second = min(_SLOWER, 1 - error) * rate
        self._goal = _BACK * rate
        self._step = max(_STEP, error)
        self._begin(at)

    def _try(self, at: float, *, refused: bool) -> None:
        self._helps += evidence(_FEWER * self._usual, self._usual, refused=refused)
        if self._helps > SURE:
            self._keep(self._goal, at, self._step)
        elif self._helps < -LIKELY or self._sent * self._usual > _UNDECIDED:
            # They are refused by chance after all.
            self._patience = min(_PATIENCE, 2 * self._patience)
            self._release()

    def _keep(self, per_second: float, at: float, step: float = _STEP) -> None:
        self._state = _State.PACED
        self.per_second = self._goal = per_second
        self._step = step
        self._patience = 1
        self._trouble = self._chance = 0.0
        self._begin(at)

    def _release(self) -> None:
        self._state = _State.FREE
        self.per_second = math.inf
        self._trouble = self._chance = 0.0

    def _cut(self, at: float) -> None:
        self._clean, self._stepped_at = 0, at
        is_likely = self._trouble > LIKELY
        if is_likely or self._chance < _FEW:
            self._step = _STEP
        if not is_likely:
            return
        if self._accepted >= _SENDS:
            self._goal = _BACK * self._rate(at)
            self._begin(at)
        self.per_second = min(self.per_second, self._goal)

    def _rise(self, at: float) -> None:
        self._clean += 1
        if self._clean < _SENDS:
            return
        seconds = at - self._stepped_at
        if self._clean < 0.5 * self.per_second * seconds:
            self._release()
            return
        self.per_second *= 1 + self._step
        self._step = min(_LONGEST_STEP, self._step * 2 ** min(2.0, seconds / _SECONDS))
        self._clean, self._stepped_at = 0, at
