"""The finder: how many requests at once pay, from rounds at two neighbouring levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from typing import ClassVar, NamedTuple

from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.rounds import Reading
from batch_gateway.concurrency.waiting_seats import NOTHING_KNOWN, Lately, Waiting

__all__ = ["Finder", "Shown", "State"]

_DOUBLE = math.log(2)  # the longest stride, as in the slow start of TCP (RFC 5681)
_SHORTEST = 0.3 * _DOUBLE  # stride of a climb: 23 %, which one pair of rounds can tell from chance
# ln between the two levels of a hold: the square root of those in flight, as of 256 sixteen; what
# fewer bring is noisier, and they have a longer way to where clients of one server are alike.
_LEAST_SWAY, _WIDEST_SWAY = 0.04, 0.35  # one more of three
# A stride is so many times the noise in a pair of rounds, for a standard error of the elasticity
# of a third.
_STRIDE_OVER_NOISE = 3.0
# A climb wants a little more than what a hold is content with: it goes on by long strides.
_STEEPER = 0.1
# Standard deviations of the elasticity from worthwhile: enough to go on, enough to end a climb. A
# needless look at a level costs a round, a climb that ends too soon many.
_SURE, _SURELY_NOT = 1.0, 1.5
# Where next to nobody waits, a server with a queue has free seats: the better guess will do, and
# no stride is chosen as if more brought less than half.
_LIKELY, _HALF = 0.0, 0.5
_FORGET = 0.8  # weight of the evidence so far at each new pair: about five pairs count
_LEAST_NOISE = 0.01  # ln; nothing is known better than to a per cent
_MOST_NOISE = 0.5  # ln; what was noisier than that is forgotten as soon as what was so
_MEMORY = 16  # pairs that the noise is averaged over
_WIDE = 0.16  # ln; so wide a range of elasticities explains much noise
_SHIFT = 0.12  # ln; a change of latency below that is left to the evidence
_ALIKE = 0.02  # ln; levels that differ by less tell nothing of the elasticity
_GAIN = 0.2  # of the steps of a hold
_IN_A_ROW = 4  # sure steps one way: the knee is not near
_FAR_ABOVE, _FAR_BELOW = 0.15, 0.5  # how far from worthwhile, up and (as a share of it) down
# What is no work and was there from the start is a long way, or a queue of others; of the latency,
# from which on it is tried with half as many. Again after so many rounds, and twice as many.
_LONG_WAY, _AGAIN = 0.1, 8
_TWO = math.log(1.5)  # from there on a level rounds to two
_AHEAD = 0.25  # ln; the level is at most so far above what was used, as others may allow less
_WHY = {reason: Why(reason) for reason in Reason}


class State(Enum):
    """What the finder is doing."""

    CLIMB = "goes up by strides while more bring more"
    HOLD = "sways around the knee, and follows it"


class Shown(Enum):
    """What a round showed, beside the one before."""

    PAYS = "more bring more, surely; likely will do where nobody waits, and never where some do"
    PAYS_NOT = "more surely bring too little"
    MADE_A_QUEUE = "the raise made some wait who did not before"
    FREE_SEATS = "next to nobody waits for several rounds"
    LASTING_QUEUE = "more surely wait than may, over several rounds"
    NO_QUEUE = "after two such cuts as many wait as before, and so not for ours"
    DOUBTFUL = "answers are slower or quicker by what nothing of ours explains"
    QUICKER = "they are still quicker"
    UNSURE = "none of these"


class _Pair(NamedTuple):
    """Two rounds beside each other.

    Attributes:
        grown: ln of how many times as many were in flight.
        slower: ln of how many times as long a typical answer took.
        variance: of `slower`, by the scatter within the rounds.
    """

    grown: float
    slower: float
    variance: float

    @classmethod
    def of(cls, before: Reading, after: Reading, tokens: float) -> _Pair:
        return cls(
            math.log(after.in_flight / before.in_flight),
            math.log(after.latency(tokens) / before.latency(tokens)),
            before.error**2 + after.error**2,
        )

    @property
    def excess(self) -> float:
        """The part of `slower` that no number of ours explains: by Little's law the elasticity
        of throughput is 1 - slower / grown, from 0 to 1 at any server that stays as it is."""
        least, most = min(0.0, self.grown), max(0.0, self.grown)
        return self.slower - min(max(self.slower, least), most)


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
        self._waiting = NOTHING_KNOWN
        self._noise = 0.0  # variance of what nothing of ours explains
        self._compared = 0
        self._rounds = self._next_trial = 0
        self.restart(initial)

    # -- commands --------------------------------------------------------------------------

    def restart(self, number: float) -> None:
        """Climb from so many, whatever was learnt."""
        self._last = self._doubted = None
        self._climb(math.log(max(1.0, number)), _DOUBLE, high=False)

    def hold(self, number: float, reason: Reason) -> None:
        """Go to so many and look around there."""
        self._last = self._doubted = None
        self._hold(math.log(max(1.0, number)), reason)

    def skip(self) -> None:
        """Something else decided how many were in flight: no round of before is to be compared."""
        self._last = self._doubted = None

    def step(self, reading: Reading, tokens: float, waiting: Waiting = NOTHING_KNOWN) -> Shown:
        """Learn from a round, at answers of `tokens`, and move the level; what it showed."""
        before, self._last = self._last, reading
        self._waiting = waiting
        self._lately.learn(waiting)
        self._rounds += 1
        if self._high:
            self._some_wait = waiting.some
            self._at_higher.learn(waiting)
        self._ln_used = math.log(reading.in_flight)
        shown = self._look(before, reading, tokens)
        self.MOVES[self.state, shown](self)
        self._ln = min(self._ln, self._ln_used + _AHEAD)
        self._set_level()
        return shown

    @property
    def number(self) -> float:
        """Around which it looks; in a climb the lower level."""
        return math.exp(self._ln)

    @property
    def climbs(self) -> bool:
        return self.state is State.CLIMB

    # -- what a round shows ----------------------------------------------------------------

    def _look(self, before: Reading | None, reading: Reading, tokens: float) -> Shown:
        waiting = self._waiting
        if waiting.lasting or waiting.anyway:
            return Shown.LASTING_QUEUE if waiting.lasting else Shown.NO_QUEUE
        if before is None:
            return Shown.UNSURE
        pair = _Pair.of(before, reading, tokens)
        self._lower = before
        if self.climbs and self._high and waiting.many and pair.grown > _ALIKE:
            return Shown.MADE_A_QUEUE
        noise = max(_SHIFT, 3 * math.sqrt(self._noise + pair.variance))
        if self._doubted is not None:
            since = _Pair.of(self._doubted, reading, tokens)
            self._doubted = None
            if abs(since.excess) <= min(noise, abs(pair.excess)):
                pair = since  # it was soon over
            elif abs(pair.excess) <= noise or (pair.excess > 0) == (since.excess > 0):
                self._shift = since.excess
                # A slower server is no full one, and so nothing is learnt from that.
                return Shown.UNSURE if since.excess > 0 else Shown.QUICKER
        elif abs(pair.excess) > noise:
            self._doubted = before
        self._learn_noise(pair, noise)
        return Shown.DOUBTFUL if self._doubted else self._weigh(pair)

    def _learn_noise(self, pair: _Pair, most: float) -> None:
        excess = min(most, abs(pair.excess))
        if not excess and abs(pair.grown) > max(2 * math.sqrt(self._noise), _WIDE):
            return
        self._compared += 1
        self._noise += (excess**2 - self._noise) / min(_MEMORY, self._compared + 4)
        self._noise = min(self._noise, _MOST_NOISE**2)

    def _weigh(self, pair: _Pair) -> Shown:
        """Add a pair to the evidence, by least squares through the origin."""
        if abs(pair.grown) < _ALIKE:
            return Shown.UNSURE
        variance = max(pair.variance, self._noise, _LEAST_NOISE**2)
        self._weight = _FORGET * self._weight + pair.grown**2 / variance
        self._sum = _FORGET * self._sum + pair.grown * (pair.grown - pair.slower) / variance
        return self._judge_climb() if self.climbs else self._judge_hold()

    @property
    def _elasticity(self) -> float:
        return self._sum / self._weight if self._weight else 0.0

    def _judge_climb(self) -> Shown:
        wanted = self._worthwhile + _STEEPER
        deviations = (self._elasticity - wanted) * math.sqrt(self._weight)
        if deviations > (_LIKELY if self._waiting.hardly_any else _SURE):
            if not self._some_wait:
                return Shown.PAYS
            # Twice, as a wait in one round may be chance.
            twice = self._high and self._lately.rounds > 2
            return Shown.MADE_A_QUEUE if twice else Shown.UNSURE
        return Shown.PAYS_NOT if deviations < -_SURELY_NOT else Shown.UNSURE

    def _judge_hold(self) -> Shown:
        above = self._elasticity - self._worthwhile
        deviations = above * math.sqrt(self._weight)
        sign = (deviations > _SURE) - (deviations < -_SURE)
        if self._high and sign >= 0 and self._at_higher.free_seats(self._waiting):
            return Shown.FREE_SEATS
        self._row = self._row + 1 if sign and sign == self._sign else 1
        self._sign = sign
        if self._row < _IN_A_ROW:
            return Shown.UNSURE
        if sign > 0 and above > _FAR_ABOVE:
            return Shown.UNSURE if self._some_wait else Shown.PAYS
        far_below = sign < 0 and above < -_FAR_BELOW * self._worthwhile
        return Shown.PAYS_NOT if far_below else Shown.UNSURE

    # -- what follows ----------------------------------------------------------------------

    def _raise(self) -> None:
        """CLIMB from there: the stride is the elasticity's share of a doubling, and three times the
        noise at least; but where a hold was doubted, back to it."""
        if self._hold_doubted:
            self._ln_used = self._ln + self._stride  # as before
            self._hold(self._ln_used, Reason.KNEE)
            return
        elasticity = self._elasticity
        if self._waiting.hardly_any:
            elasticity = max(_HALF, elasticity)
        self._climb(self._ln + self._stride, self._stride_at(elasticity), high=True)

    def _end_climb(self) -> None:
        """HOLD at the corner of `min(a n, C)` through both levels."""
        share = min(1.0, max(0.0, self._elasticity))
        self._hold(self._ln + share * self._stride, Reason.KNEE)

    def _fit_between(self) -> None:
        """HOLD at as many as did not wait."""
        fitted = math.exp(self._ln_used) * (1 - self._waiting.share)
        lower = self._lower
        self.hold(max(lower.in_flight, fitted), Reason.QUEUE)
        self._last = lower

    def _take_back(self) -> None:
        """HOLD at as many as do not."""
        share = self._waiting.lasting or max(0.0, self._waiting.share)
        self.hold(math.exp(self._ln_used) * (1 - share), Reason.QUEUE)

    def _look_again(self) -> None:
        """The other level again."""
        self._high = not self._high

    def _stay(self) -> None:
        """The same level again: chance, if it is over by then."""

    def _follow(self) -> None:
        """HOLD: a small step towards where more just pay, smaller the less it is sure; down while
        some wait.

        The step is that of Kiefer and Wolfowitz (1952); TCP Vegas goes down likewise.
        """
        if self._weight:
            above = self._elasticity - self._worthwhile
            square = above * above * self._weight
            step = _GAIN * above * square / (1 + square)
            quarter = self._stride / 4
            step = min(quarter, max(-quarter, step))
            if (too_many := self._lately.too_many) > 0:
                # In a queue of several clients more bring more to whoever sends them.
                step = min(0.0, step) - min(self._stride, too_many)
            self._ln += step
        self._stride = self._least_sway
        self._high = not self._high

    def _climb_from_here(self) -> None:
        """CLIMB from here."""
        self._climb(self._ln_used, self._stride_at(0.0), high=True)

    def _doubt_hold(self) -> None:
        """CLIMB from 19 % fewer; back to HOLD here if those bring less."""
        self._doubt(min(self._ln, self._ln_used), self._stride_at(0.0))

    def _climb_by_shift(self) -> None:
        """CLIMB from here, by as much."""
        self._climb(self._ln_used, self._stride_at(-self._shift / _DOUBLE), high=True)

    MOVES: ClassVar[dict[tuple[State, Shown], Callable[[Finder], None]]] = {
        (State.CLIMB, Shown.PAYS): _raise,
        (State.CLIMB, Shown.PAYS_NOT): _end_climb,
        (State.CLIMB, Shown.UNSURE): _look_again,
        (State.CLIMB, Shown.MADE_A_QUEUE): _fit_between,
        (State.CLIMB, Shown.LASTING_QUEUE): _take_back,
        (State.CLIMB, Shown.NO_QUEUE): _climb_from_here,
        (State.CLIMB, Shown.DOUBTFUL): _stay,
        (State.CLIMB, Shown.QUICKER): _climb_by_shift,
        (State.HOLD, Shown.PAYS): _climb_from_here,
        (State.HOLD, Shown.FREE_SEATS): _climb_from_here,
        (State.HOLD, Shown.PAYS_NOT): _doubt_hold,
        (State.HOLD, Shown.UNSURE): _follow,
        (State.HOLD, Shown.LASTING_QUEUE): _take_back,
        (State.HOLD, Shown.NO_QUEUE): _climb_from_here,
        (State.HOLD, Shown.DOUBTFUL): _stay,
        (State.HOLD, Shown.QUICKER): _climb_by_shift,
    }
    """What follows from what a round showed, in each state. What pays, or not, in a hold is shown
    by four rounds on end."""

    # -- levels ----------------------------------------------------------------------------

    def _climb(self, ln: float, stride: float, *, high: bool) -> None:
        self.state, self.why = State.CLIMB, _WHY[Reason.CLIMBING]
        self._go(ln, stride, high=high)

    def _hold(self, ln: float, reason: Reason) -> None:
        if ln < _TWO:
            # There are no fewer to go back to.
            self._climb(ln, _DOUBLE, high=False)
            self.why = _WHY[reason]
            return
        if self._waiting.none > _LONG_WAY and self._rounds >= self._next_trial:
            self._next_trial = 2 * self._rounds + _AGAIN
            self._doubt(ln, _DOUBLE)
            return
        self.state, self.why = State.HOLD, _WHY[reason]
        self._ln = ln
        self._go(ln, self._least_sway, high=False)

    def _doubt(self, ln: float, stride: float) -> None:
        self._climb(ln - stride, stride, high=False)
        self._hold_doubted = True

    def _go(self, ln: float, stride: float, *, high: bool) -> None:
        self._ln, self._stride, self._high = ln, stride, high
        self._hold_doubted = self._some_wait = False
        self._lately, self._at_higher = Lately(), Lately()
        self._weight = self._sum = 0.0
        self._sign = self._row = 0
        self._set_level()

    def _set_level(self) -> None:
        self._ln = min(math.log(self._maximum), max(math.log(self._minimum), self._ln))
        ln = self._ln if self.climbs else self._ln - self._stride / 2
        low = max(self._minimum, round(math.exp(ln)))
        level = max(low + 1, round(low * math.exp(self._stride))) if self._high else low
        self.level = min(self._maximum, level)

    def _stride_at(self, elasticity: float) -> float:
        noise = _STRIDE_OVER_NOISE * math.sqrt(self._noise)
        return min(_DOUBLE, max(_SHORTEST, _DOUBLE * elasticity, noise))

    @property
    def _least_sway(self) -> float:
        return min(_WIDEST_SWAY, max(_LEAST_SWAY, math.exp(-self._ln / 2)))
