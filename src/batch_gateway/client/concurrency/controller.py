"""The adaptive controller: from what each request met to how many may be under way."""

from __future__ import annotations

import math

from batch_gateway.client.concurrency.best import Best
from batch_gateway.client.concurrency.bounds import Bounds
from batch_gateway.client.concurrency.changes import Watch, as_quick_as, outdoes, quicker_than
from batch_gateway.client.concurrency.climbing import Climb
from batch_gateway.client.concurrency.crowd import Crowd
from batch_gateway.client.concurrency.failures import Failures
from batch_gateway.client.concurrency.holding import Hold
from batch_gateway.client.concurrency.overshoot import Overshoot
from batch_gateway.client.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.concurrency.refusals import Refusals
from batch_gateway.client.concurrency.slump import Slump
from batch_gateway.client.concurrency.waits import MANY, Waits
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.rounds import Reading, Round
from batch_gateway.concurrency.server_load import Advice

__all__ = ["AdaptiveController"]

_OK = Outcome.OK
_CLIMBING, _KNEE = Why(Reason.CLIMBING), Why(Reason.KNEE)
_SHORTEST_ROUND = 0.1  # seconds; below that, millisecond requests would give a thousand rounds
_FEWEST, _MOST = 4, 64  # answers that a round needs, as the limit is
_MEMORY = 1000  # answers over which the mean length is taken
_FROM_BELOW = 0.8  # after a queue was seen, let it drain and come from there
_FAR_BELOW = 0.25  # the first raise of a climb from there
_BEYOND_BEST = 1.25  # no limit is further above the smallest that brought the best throughput


class AdaptiveController:
    """Finds how many requests may be under way, from how each of them ended. No I/O, no clock:
    the caller says what time it is, in seconds that never go back.

    It measures in rounds. A round ends when enough requests were both sent and answered in it,
    and gives a `Reading`: how long a typical answer took at so many in flight. A `Climb` looks
    for the knee, a `Hold` follows it. A sudden change of latency that no change of ours explains
    ends a round early: slower cuts the limit by as much at once, faster returns to the best known
    or climbs. Refusals, failures, waits, others on the server, and the best throughput of late
    bound the limit; each has a module of its own.

    Attributes:
        limit: how many may be under way.
        in_flight: how many are.
        paused_until: nothing is to be sent before.
    """

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self._policy = policy
        self._now = self._area = 0.0
        self.in_flight = 0
        self._base = float(policy.initial)
        self._climb: Climb | None = Climb(policy.worthwhile, first_gain=1.0)
        self._hold = Hold(policy.worthwhile)
        self._tokens = 0.0
        self._answers = 0
        self._refusals = Refusals(policy)
        self._failures = Failures()
        self._round = Round(0.0, 0.0, 0.0, None)
        self._reference: Reading | None = None
        self._watch = Watch(0.0)
        self._best = Best()
        self._slumps = Slump()
        self._regained_at = self._held_since = 0.0
        self._crowd = Crowd()
        self._waits = Waits()
        self._overshoot = Overshoot()
        self._bounds = Bounds(policy, self._refusals, self._crowd)
        self.limit = policy.initial

    @property
    def paused_until(self) -> float:
        return self._refusals.paused_until

    @property
    def why(self) -> Why | None:
        """What holds the limit, in outline."""
        if self.limit >= self._refusals.ceiling:
            return Why(Reason.CEILING, self._refusals.ceiling)
        return _CLIMBING if self._climb else _KNEE

    def started(self, now: float) -> Started:
        self._area += self.in_flight * (now - self._now)
        self._now = now
        self.in_flight += 1
        if self.in_flight > self._refusals.ceiling:
            self._refusals.exceeded(self.in_flight, now)
        return Started(now, self._area, self.in_flight)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self._area += self.in_flight * (now - self._now)
        self._now = now
        self.in_flight -= 1
        if self._overshoot.under_way:
            self._look_for_overshoot(started, ended, now)
        if ended.outcome is _OK:
            allowed = self._failures.answered(started.at, now)
            if allowed is not None:
                self._gave_back(allowed, now)
            if self._refusals.answered():
                self._restart(now)
            self._answered(started, ended, now)
            if self._bounds.stand_still:
                # Nothing moves the limit between two rounds, and whatever ends one has set it.
                return
        elif ended.outcome is Outcome.REFUSED:
            self._refused(started, ended, now)
        elif ended.outcome is not Outcome.ABANDONED:
            self._failed(started, now)
        self._set_limit(now)

    def first_token(self, started: Started, seconds: float, now: float) -> None:
        """The first token of a streamed answer came so many seconds after it was sent.

        May be told when it comes or when the answer ends; the sooner, the gentler.
        """
        self._overshoot.first_token(started.at, seconds, now)
        if started.at < self._round.counts_from:
            # Prompts that were sent together wait for each other, not for others.
            return
        fits = self._waits.first_token(seconds, started.rank, self._rate(), now)
        if fits is not None:
            self._crowd.waited(fits, now)
            self._set_limit(now)

    def advise(self, advice: Advice, now: float) -> None:
        """Go by it until told otherwise, by whoever sees more of the gateway than we do."""
        self._bounds.advice = advice
        self._set_limit(now)

    def _refused(self, started: Started, ended: Ended, now: float) -> None:
        self._refusals.refused(started, ended, now, self._rate())
        ceiling = self._refusals.ceiling
        if self._base > ceiling:
            self._base = self._bounds.clamp(ceiling)
            self._hold_on(now)

    def _rate(self) -> float:
        return self._reference.rate(self._tokens) if self._reference else 1.0

    def _failed(self, started: Started, now: float) -> None:
        latency = self._reference.mean_latency if self._reference else 0.0
        if self._failures.failed(started.at, self._base, latency, now):
            self._base = self._bounds.clamp(self._base / 2)
            self._hold_on(now)

    def _gave_back(self, allowed: float, now: float) -> None:
        self._base = max(self._base, allowed)
        self._start_climb(None, now, 1.0).bunched = True

    def _answered(self, started: Started, ended: Ended, now: float) -> None:
        latency = max(1e-6, now - started.at)
        mean_in_flight = max(1.0, (self._area - started.area) / latency)
        if self._answers < _MEMORY:
            self._answers += 1
        self._tokens += (ended.tokens - self._tokens) / self._answers
        if self._overshoot.drains:
            return
        self._watch_for_changes(latency, ended.tokens, mean_in_flight, now)
        done = self._round
        if started.at < done.counts_from:
            return
        done.add(latency, ended.tokens, mean_in_flight)
        enough = done.count >= _MOST or done.count >= self.limit // (4 if self._climb else 2)
        if enough and done.count >= _FEWEST and now - done.began >= _SHORTEST_ROUND:
            self._end_round(now)

    def _end_round(self, now: float) -> None:
        reading = self._round.reading(now)
        before = self._best.reading
        self._best.learn(reading, self._tokens, now)
        if self._climb:
            self._go_on_climbing(self._climb, reading)
        elif before and outdoes(before, reading, self._tokens) and not self._crowd.known(now):
            self._start_climb(reading, now)
        else:
            self._adjust(reading, now)
        self._reference = reading
        self._crowd.look(self._best.reading, now)
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        before = self.limit
        self._set_limit(now)
        raised = self.limit > 1.15 * before
        self._round = Round.after(self._reference, self._tokens, now, raised=raised)
        self._watch = Watch(now)
        usual = self._waits.usual if self._climb and self.limit > self.in_flight + 1 else None
        self._overshoot.begin(self.in_flight, usual, now)

    def _restart(self, now: float) -> None:
        self._base = float(self._policy.initial)
        self._best = Best()
        self._start_climb(None, now, 1.0)

    def _start_climb(self, reading: Reading | None, now: float, gain: float = 0.5) -> Climb:
        climb = self._climb = Climb(self._policy.worthwhile, first_gain=gain)
        if reading is not None:
            self._go_on_climbing(climb, reading)
        self._begin_round(now)
        return climb

    def _go_on_climbing(self, climb: Climb, reading: Reading) -> None:
        told = self._waits.share(reading, self._tokens)
        waiting = 0.0 if climb.bunched else told or 0.0
        best, blind = self._best.reading, not self._waits.tell
        step = climb.step(reading, self._base, self._tokens, best, waiting=waiting, blind=blind)
        if told is not None:
            self._crowd.fitted(reading.in_flight * (1 - told))
        self._base = step.base
        if not step.goes_on:
            self._end_climb()
            if waiting > MANY or told is None:
                self._crowd.saturated()
            if waiting > MANY:
                self._best.replace(reading.without(waiting))
                self._base *= _FROM_BELOW
            self._best.correct(reading, self._tokens)

    def _look_for_overshoot(self, started: Started, ended: Ended, now: float) -> None:
        fits = self._overshoot.ended(started.at, ended.outcome is _OK, self.in_flight, now)
        if fits is not None:
            self._crowd.overrun(fits)
            self._base = min(self._base, _FROM_BELOW * fits)
            self._overshoot.drain()
            self._hold_on(now)
        elif self._overshoot.is_gone(self.in_flight, self.limit):
            self._begin_round(now)

    def _end_climb(self) -> None:
        if self._climb:
            self._held_since = self._now
        self._climb = None
        self._hold.restart()

    def _hold_on(self, now: float) -> None:
        self._end_climb()
        self._begin_round(now)

    def _adjust(self, reading: Reading, now: float) -> None:
        best = self._best.reading
        if best and self._slumps.has_lasted(best, reading, self._tokens, now):
            self._best.replace(reading)
        crowded = self._crowd.known(now)
        if self._queued(reading, crowded, now) or self._shifted(reading, crowded, now):
            return
        hold = self._hold
        if not hold.probes:
            hold.turn()
        elif hold.probed(reading, self._tokens):
            self._base = max(1.0, reading.in_flight)
            return
        elif hold.doubts:
            return
        elif hold.grown is not None and not crowded:
            self._start_climb(hold.grown, now)
            return
        regained = self._regained(reading, now)
        if regained is not None:
            self._regained_at = now
            self._base = max(self._base, regained)
            hold.begin_with(reading)
            return
        self._follow(reading, crowded, now)

    def _queued(self, reading: Reading, crowded: bool, now: float) -> bool:
        """Come down by those that only waited, if they were many."""
        told = self._waits.share(reading, self._tokens)
        if told is not None:
            self._crowd.fitted(reading.in_flight * (1 - told))
        # A burst looks like a queue for a moment; room for it is left already.
        waiting = self._waits.lasting() if crowded else told or 0.0
        if waiting <= MANY:
            return False
        self._waits.restart()
        found = reading.without(waiting)
        self._best.replace(found)
        self._crowd.saturated()
        self._crowd.only(found.in_flight, now)
        self._base = min(self._base, found.in_flight)
        self._hold.restart()
        return True

    def _shifted(self, reading: Reading, crowded: bool, now: float) -> bool:
        """Go by a change since the last round that nothing of ours explains."""
        shift = self._hold.shift(reading, self._tokens)
        if shift < 0:
            self._hold.begin_with(reading)
            if self._best.reading is reading and not crowded:
                self._start_climb(reading, now, math.exp(-shift) - 1)
            return True
        if shift > 0 and not self._hold.probes and not self._waits.seen:
            if not crowded:
                self._base = max(1.0, self._base * math.exp(-shift))
            self._hold.restart()
            return True
        return False

    def _follow(self, reading: Reading, crowded: bool, now: float) -> None:
        """Towards where a raise just pays."""
        hold = self._hold
        room = self._bounds.room(self._used, now)
        factor = hold.factor(reading, self._tokens, may_probe=self._base < 0.95 * room)
        self._base = max(1.0, self._base * factor)
        if hold.far_below and self._base < 0.8 * room and not crowded:
            self._start_climb(reading, now, _FAR_BELOW)
            return
        best = self._best.reading
        if best is not None:
            self._base = min(self._base, max(_BEYOND_BEST * best.in_flight, best.in_flight + 1))

    def _regained(self, reading: Reading, now: float) -> float | None:
        """What once went well, where far less is sent with answers no slower than then."""
        best, since = self._best.reading, max(self._regained_at, self._held_since)
        if best is None or now - since < max(5.0, 8 * best.mean_latency):
            return None
        fits = self._best.fit(self._bounds.room(self._used, now))
        fewer = self._base <= 0.9 * fits and as_quick_as(best, reading, self._tokens)
        return fits if fewer else None

    def _watch_for_changes(self, latency: float, tokens: int, in_flight: float, now: float) -> None:
        reference = self._reference
        if reference is None or self._climb:
            return
        watch = self._watch
        watch.add(latency, tokens, in_flight, reference, self._tokens)
        if now - watch.began < _SHORTEST_ROUND:
            return
        shortest = max(_SHORTEST_ROUND, 0.2 * reference.mean_latency)
        shift = watch.verdict(self.limit, shortest, now)
        if shift is None:
            return
        if now - self._held_since > 1.5 * reference.mean_latency:
            found = watch.slowdown * reference.latency(self._tokens)
            self._crowd.block(found, watch.in_flight, now)
            self._crowd.look(self._best.reading, now)
        self._watch = Watch(now)
        if shift:
            self._sudden(shift, in_flight, now)

    def _sudden(self, shift: float, in_flight: float, now: float) -> None:
        assert self._reference is not None  # noqa: S101 - checked by the caller
        factor = math.exp(shift)
        self._reference = self._reference.changed(factor, in_flight, now)
        if shift > 0:
            self._slump(shift, now)
        elif not self._recovered(now):
            self._start_climb(self._reference, now, 1 / factor - 1)

    def _slump(self, shift: float, now: float) -> None:
        """It became slower by itself: send less at once."""
        self._slumps.begins(now)
        if self._waits.seen or self._crowd.known(now):
            # A queue is seen as such, or room is left free already; a slower pace alone is no
            # reason to send less.
            return
        self._base = self._bounds.clamp(self._base * math.exp(-shift))
        self._hold_on(now)

    def _recovered(self, now: float) -> bool:
        """Whether it only became what it was; then the limit is, too."""
        best, reference = self._best.reading, self._reference
        assert reference is not None  # noqa: S101 - set by the caller
        slow = best and not as_quick_as(best, reference, self._tokens)
        if self._slumps.under_way and slow:
            return True
        if self._slumps.is_over():
            self._crowd.forget()
        if best is None or quicker_than(best, reference, self._tokens):
            self._best.replace(reference)
            if not self._crowd.known(now):
                self._crowd.forget()
                return False
        best = self._best.reading
        self._base = max(self._base, best.in_flight if best else 1.0)
        self._hold_on(now)
        return True

    @property
    def _used(self) -> float:
        """What was in flight in the last round."""
        return self._reference.in_flight if self._reference else float(self._policy.initial)

    def _set_limit(self, now: float) -> None:
        cap = self._bounds.cap(self._used, now)
        if self._base > cap:
            self._base = cap
            if self._climb:
                self._end_climb()
        self._base = self._bounds.clamp(self._base)
        wanted = self._base if self._climb else self._hold.wanted(self._base)
        self.limit = self._bounds.limit(self._overshoot.wanted(wanted), now)
