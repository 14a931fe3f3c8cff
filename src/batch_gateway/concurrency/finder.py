"""The finder: how many requests at once pay, from rounds at two neighbouring levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import ClassVar

from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.rounds import Reading
from batch_gateway.concurrency.waiting_seats import Waits

__all__ = ["Finder", "Shown", "State"]

_DOUBLE = math.log(2)  # the longest stride, as in the slow start of TCP (RFC 5681)
_SHORTEST = 0.3 * _DOUBLE  # stride of a climb: 23 %, which one pair of rounds can tell from chance
# ln between the two levels of a hold is a root of those in flight, as of 256 sixteen; at least
# this. What fewer bring is noisier, and they have a longer way to where clients of one server are
# alike.
_LEAST_SWAY = 0.04
# Standard deviations of the elasticity from worthwhile: enough to go on, enough to end a climb. A
# needless look at a level costs a round, a climb that ends too soon many.
_SURE, _SURELY_NOT = 1.0, 1.5
# A hold, which follows the knee by small steps, is left for twice of worthwhile, or for half of it,
# and more surely than a climb is ended.
_FAR, _SURER = 2.0, 3.0
_FORGET = 0.8  # weight of the evidence so far at each new pair: about five pairs count
_LEAST_NOISE = 0.01  # ln; nothing is known better than to a per cent
_MOST_NOISE = 0.5  # ln; what was noisier than that is forgotten as soon as what was so
_MEMORY = 12  # pairs that the noise is averaged over
_SHIFT = 0.12  # ln; a change of latency below that is left to the evidence
_ALIKE = 0.02  # ln; levels that differ by less tell nothing of the elasticity
_GAIN = 0.2  # of the steps of a hold
# Next to nobody waits where fewer than half of those that may do; in so many rounds that is enough.
_NEXT_TO_NOBODY, _PATIENCE = -0.5, 4
_AHEAD = 0.25  # ln; the level is at most so far above what was used, as others may allow less
_WHY = {reason: Why(reason) for reason in Reason}


class State(Enum):
    """What the finder is doing."""

    CLIMB = "goes up by strides while more bring more"
    HOLD = "sways around the knee, and follows it"


class Shown(Enum):
    """What a round showed, beside the one before."""

    PAYS = "more surely bring more, or likely, as next to nobody waits or all became quicker"
    PAYS_NOT = "more surely bring too little"
    QUEUE = "more surely wait than may: over several rounds, or in one after a raise"
    UNSURE = "none of these"


class Finder:
    """Looks for the knee: the number beyond which more in flight bring hardly more answers.

    Rounds alternate between two levels, and their paired differences add up to an estimate of the
    elasticity of throughput with its standard error; only what is sure moves the level. What each
    round may show is in `Shown`, and what follows from it in `MOVES`. No I/O, no clock.

    Attributes:
        level: how many should be in flight now.
        why: why not more.
    """

    def __init__(self, worthwhile: float, initial: int, minimum: int, maximum: int) -> None:
        self._worthwhile = worthwhile
        self._minimum, self._maximum = minimum, maximum
        self._waits = Waits()
        self._noise = 0.0  # variance of what nothing of ours explains
        self.restart(initial)

    # -- commands --------------------------------------------------------------------------

    def restart(self, number: float) -> None:
        """Climb from so many, whatever was learnt."""
        self.skip()
        ln = math.log(max(1.0, number))
        self._go(State.CLIMB, Reason.CLIMBING, ln, _DOUBLE, high=False)

    def hold(self, number: float, reason: Reason) -> None:
        """Go to so many and look around there."""
        self.skip()
        ln = math.log(max(1.0, number))
        self._go(State.HOLD, reason, ln - _sway(ln) / 2, _sway(ln), high=False)

    def skip(self) -> None:
        """Something else decided how many were in flight: no round of before is to be compared."""
        self._last: Reading | None = None
        self._doubted = False

    def step(self, reading: Reading, tokens: float) -> Shown:
        """Learn from a round, at answers of `tokens`, and move the level; what it showed."""
        self._waits.learn(reading, tokens)
        self._ln_used = math.log(reading.in_flight)
        shown = self._look(reading, tokens)
        self.MOVES[self.state, shown](self)
        self._ln = min(self._ln, self._ln_used + _AHEAD)
        self._set_level()
        return shown

    @property
    def number(self) -> float:
        """The lower level."""
        return math.exp(self._ln)

    @property
    def climbs(self) -> bool:
        return self.state is State.CLIMB

    # -- what a round shows ----------------------------------------------------------------

    def _look(self, reading: Reading, tokens: float) -> Shown:
        if self._waits.too_many(raised=self.climbs):
            return Shown.QUEUE
        if self._waits.over < _NEXT_TO_NOBODY and self._waits.rounds >= _PATIENCE:
            self._last, self._doubted = reading, False
            return Shown.PAYS
        before, self._last = self._last, reading
        if before is None:
            return Shown.UNSURE
        grown = math.log(reading.in_flight / before.in_flight)
        slower = math.log(reading.latency(tokens) / before.latency(tokens))
        variance = before.error**2 + reading.error**2
        # By Little's law the elasticity of throughput is 1 - slower / grown, from 0 to 1 at any
        # server that stays as it is. What is beyond that no number of ours explains.
        excess = slower - min(max(slower, min(0.0, grown)), max(0.0, grown))
        most = max(_SHIFT, 3 * math.sqrt(self._noise + variance))
        odd = abs(excess) > most
        self._noise += (min(most, abs(excess), _MOST_NOISE) ** 2 - self._noise) / _MEMORY
        if odd and not self._doubted:
            # Chance, if it is over by the next, which is compared with what was before.
            self._last, self._doubted = before, True
            return Shown.UNSURE
        self._doubted = False
        if odd:
            # A slower server is no full one, and so nothing is learnt from that.
            return Shown.UNSURE if excess > 0 else Shown.PAYS
        return self._weigh(grown, slower, variance)

    def _weigh(self, grown: float, slower: float, variance: float) -> Shown:
        """Add a pair to the evidence, by least squares through the origin, and judge that."""
        if abs(grown) < _ALIKE:
            return Shown.UNSURE
        variance = max(variance, self._noise, _LEAST_NOISE**2)
        self._weight = _FORGET * self._weight + grown**2 / variance
        self._sum = _FORGET * self._sum + grown * (grown - slower) / variance
        error, over = 1 / math.sqrt(self._weight), self._waits.over
        times, above, below = _FAR, _SURER, _SURER
        if self.climbs:
            times, above, below = 1.0, _SURE if over > _NEXT_TO_NOBODY else 0.0, _SURELY_NOT
        if over <= 0 and self._elasticity - above * error > times * self._worthwhile:
            return Shown.PAYS
        if self._elasticity + below * error < self._worthwhile / times:
            return Shown.PAYS_NOT
        return Shown.UNSURE

    @property
    def _elasticity(self) -> float:
        return self._sum / self._weight if self._weight else 0.0

    # -- what follows ----------------------------------------------------------------------

    def _raise(self) -> None:
        """CLIMB from here: the stride is the elasticity's share of a doubling, at most twice the
        one before.
        """
        ln = self._ln + self._stride if self.climbs else self._ln_used
        most = min(_DOUBLE, 2 * self._stride)
        stride = max(_SHORTEST, min(most, _DOUBLE * self._elasticity))
        self._go(State.CLIMB, Reason.CLIMBING, ln, stride, high=True)

    def _fall_back(self) -> None:
        """HOLD at the corner of `min(a n, C)` through both levels."""
        share = min(1.0, max(0.0, self._elasticity))
        self.hold(math.exp(self._ln + share * self._stride), Reason.KNEE)

    def _take_back(self) -> None:
        """HOLD at as many as make half of those wait that may."""
        share = max(self._waits.may, self._waits.share - self._waits.may / 2)
        self.hold(math.exp(self._ln_used) * (1 - share), Reason.QUEUE)

    def _look_again(self) -> None:
        """The other level again."""
        self._high = not self._high

    def _follow(self) -> None:
        """HOLD: a small step towards where more just pay, smaller the less it is sure; down while
        some wait.

        The step is that of Kiefer and Wolfowitz (1952); TCP Vegas goes down likewise.
        """
        above = self._elasticity - self._worthwhile
        square = above * above * self._weight
        step = _GAIN * above * square / (1 + square)
        step = min(self._stride / 4, max(-self._stride / 4, step))
        if (over := self._waits.over) > 0:
            # In a queue of several clients more bring more to whoever sends them.
            step = min(0.0, step) - min(self._stride, over * self._waits.may)
        self._ln += step
        self._stride = _sway(self._ln)
        self._high = not self._high

    MOVES: ClassVar[dict[tuple[State, Shown], Callable[[Finder], None]]] = {
        (State.CLIMB, Shown.PAYS): _raise,
        (State.CLIMB, Shown.PAYS_NOT): _fall_back,
        (State.CLIMB, Shown.QUEUE): _take_back,
        (State.CLIMB, Shown.UNSURE): _look_again,
        (State.HOLD, Shown.PAYS): _raise,
        (State.HOLD, Shown.PAYS_NOT): _fall_back,
        (State.HOLD, Shown.QUEUE): _take_back,
        (State.HOLD, Shown.UNSURE): _follow,
    }
    """What follows from what a round showed, in each state."""

    # -- levels ----------------------------------------------------------------------------

    def _go(self, state: State, reason: Reason, ln: float, stride: float, *, high: bool) -> None:
        self.state, self.why = state, _WHY[reason]
        self._ln, self._stride, self._high = ln, stride, high
        self._waits.begin()
        self._weight = self._sum = 0.0
        self._set_level()

    def _set_level(self) -> None:
        self._ln = min(math.log(self._maximum), max(math.log(self._minimum), self._ln))
        low = max(self._minimum, round(math.exp(self._ln)))
        level = max(low + 1, round(low * math.exp(self._stride))) if self._high else low
        self.level = min(self._maximum, level)


def _sway(ln: float) -> float:
    return min(_DOUBLE, max(_LEAST_SWAY, math.exp(-ln / 2)))
