"""The adaptive controller: from what each request met to how many may be under way."""

from __future__ import annotations

import math

from batch_gateway.client.concurrency.best import Best
from batch_gateway.client.concurrency.changes import Watch, unexplained
from batch_gateway.client.concurrency.events import Ended, Outcome, Started
from batch_gateway.client.concurrency.first_tokens import FirstTokens
from batch_gateway.client.concurrency.headroom import Headroom
from batch_gateway.client.concurrency.knee import elasticity, knee, local_elasticity
from batch_gateway.client.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.concurrency.readings import Reading, Round
from batch_gateway.client.concurrency.refusals import Refusals
from batch_gateway.client.concurrency.server_load import Advice

__all__ = ["AdaptiveController"]

_SHORTEST_ROUND = 0.1  # seconds; below that, millisecond requests would give a thousand rounds
_DITHER = 0.04  # rounds alternate this share below and above the limit
_WINDOW = 12  # rounds that the local regression looks at
_GAIN = 0.2  # logarithmic step for each unit of elasticity above or below the worthwhile
_MEMORY = 1000  # answers over which the mean length is taken
_BURST = 15.0  # seconds; slower for longer is no burst of others but another server
_BEYOND_BEST = 1.25  # no limit is further above the smallest that brought the best throughput
_GENTLE, _GENTLE_FROM = 0.35, 32  # raises where first tokens show that others may be disturbed
_PROBE, _ROUNDS_BETWEEN_PROBES = 0.7, 14
_FAILURES = 10  # in a row: not noise any more


class AdaptiveController:
    """Finds how many requests may be under way, from how each of them ended. No I/O, no clock:
    the caller says what time it is, in seconds that never go back.

    It measures in rounds. A round ends when enough requests were both sent and answered in it,
    and gives a `Reading`: how long a typical answer took at so many in flight.

    - Climbing, each round raises the limit by the share that the last raise brought (slow start
      of TCP, RFC 5681, with the measured gain for its factor), until throughput stops growing.
    - Holding, rounds alternate a little below and above the limit, which moves to where a raise
      just pays (`worthwhile`), as BBR probes for bandwidth. Now and then a round at 70 % shows
      whether it is far past the knee after all.
    - A sudden change of latency that no change of ours explains ends a round early: slower cuts
      the limit by as much at once, faster returns to the best known or climbs.
    - Refusals, waits for first tokens, and the best throughput of late bound the limit; each has
      a module of its own.

    Attributes:
        limit: how many may be under way.
        in_flight: how many are.
        paused_until: nothing is to be sent before.
    """

    def __init__(self, policy: AdaptiveConcurrency) -> None:
        self._policy = policy
        self._now = 0.0
        self._area = 0.0
        self.in_flight = 0
        self._base = float(policy.initial)
        self._climbing = True
        self._first_gain = 1.0
        self._side = 1
        self._below: list[Reading] = []
        self._held: list[Reading] = []
        self._tokens = 0.0
        self._answers = 0
        self._refusals = Refusals(policy)
        self._round = Round(0.0, 0.0, 0.0, None)
        self._reference: Reading | None = None
        self._watch = Watch(0.0)
        self._best = Best()
        self._slump_began: float | None = None
        self._lasting_since: float | None = None
        self._regained_at = 0.0
        self._first_tokens = FirstTokens()
        self._headroom = Headroom()
        self._advice = Advice()
        self._rounds = 0
        self._failures = 0
        self.limit = policy.initial

    @property
    def paused_until(self) -> float:
        return self._refusals.paused_until

    # -- events ----------------------------------------------------------------------------

    def started(self, now: float) -> Started:
        self._pass_time(now)
        self.in_flight += 1
        self._refusals.started(self.in_flight, now)
        return Started(now, self._area, self.in_flight)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        self._pass_time(now)
        self.in_flight -= 1
        if ended.outcome is Outcome.OK:
            self._failures = 0
            if self._refusals.answered(now):
                self._restart(now)
            self._answered(started, ended, now)
        elif ended.outcome is Outcome.REFUSED:
            self._refused(started, ended, now)
        elif ended.outcome is not Outcome.ABANDONED:
            self._failed(now)
        self._set_limit(now)

    def first_token(self, started: Started, seconds: float, now: float) -> None:
        """The first token of a streamed answer came so many seconds after it was sent.

        May be told when it comes or when the answer ends; the sooner, the gentler.
        """
        if started.at < self._round.counts_from:
            # Prompts that were sent together wait for each other, not for others.
            return
        fits = self._first_tokens.learn(seconds, started.rank, self._rate(), now)
        if fits is not None:
            self._headroom.waited(fits, now)
            self._set_limit(now)

    def advise(self, advice: Advice, now: float) -> None:
        """Go by it until told otherwise, by whoever sees more of the gateway than we do."""
        self._advice = advice
        self._set_limit(now)

    def _pass_time(self, now: float) -> None:
        self._area += self.in_flight * (now - self._now)
        self._now = now

    # -- refusals --------------------------------------------------------------------------

    def _refused(self, started: Started, ended: Ended, now: float) -> None:
        self._refusals.refused(started, ended, now, self._rate())
        ceiling = self._refusals.ceiling
        if self._base > ceiling:
            self._base = max(float(self._policy.minimum), ceiling)
            self._hold(now)

    def _rate(self) -> float:
        return self._reference.rate(self._tokens) if self._reference else 1.0

    def _failed(self, now: float) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            self._failures = 0
            self._base = max(float(self._policy.minimum), self._base / 2)
            self._hold(now)

    # -- answers ---------------------------------------------------------------------------

    def _answered(self, started: Started, ended: Ended, now: float) -> None:
        latency = max(1e-6, now - started.at)
        mean_in_flight = max(1.0, (self._area - started.area) / latency)
        self._answers = min(self._answers + 1, _MEMORY)
        self._tokens += (ended.tokens - self._tokens) / self._answers
        self._watch_for_changes(latency, ended.tokens, mean_in_flight, now)
        done = self._round
        if started.at < done.counts_from:
            return
        done.add(latency, ended.tokens, mean_in_flight)
        if done.count >= self._needed() and now - done.began >= _SHORTEST_ROUND:
            self._end_round(now)

    def _needed(self) -> int:
        share = 4 if self._climbing else 2
        return int(min(64, max(4, self.limit / share)))

    def _end_round(self, now: float) -> None:
        done = self._round
        reading = done.reading(now)
        self._best.learn(reading, self._tokens, now)
        if self._climbing:
            self._climb(reading, now)
        else:
            self._adjust(reading, now)
        self._reference = reading
        self._begin_round(now)

    def _begin_round(self, now: float) -> None:
        before = self.limit
        self._set_limit(now)
        settle, pace = 0.0, None
        if self._reference is not None:
            pace = self._reference.pace
            settle = self._reference.mean_latency * (0.3 if self.limit > 1.15 * before else 0.1)
        self._round = Round(now, now + settle, self._tokens, pace)
        self._watch = Watch(now)

    def _restart(self, now: float) -> None:
        self._base = float(self._policy.initial)
        self._best = Best()
        self._start_climb(None, now)
        self._first_gain = 1.0

    def _start_climb(self, reading: Reading | None, now: float) -> None:
        self._climbing = True
        self._below = []
        self._held = []
        self._first_gain = 0.5
        if reading is not None:
            self._climb(reading, now)
        self._begin_round(now)

    def _hold(self, now: float) -> None:
        self._climbing = False
        self._held = []
        self._begin_round(now)

    # -- climbing --------------------------------------------------------------------------

    def _climb(self, reading: Reading, now: float) -> None:
        gain = self._first_gain
        best = self._best.reading
        if best is not None and reading.in_flight > 1.05 * best.in_flight:
            # More in flight than at the best, and no better.
            self._base = knee(self._below, reading, self._tokens) if self._below else best.in_flight
            self._base = min(self._base, _BEYOND_BEST * best.in_flight)
            self._climbing = False
            self._held = []
            self._best.correct(reading, self._tokens)
            return
        if self._below:
            gain = 0.5
            if reading.in_flight > 1.02 * self._below[-1].in_flight:
                seen = elasticity(self._below[-1], reading, self._tokens)
                if seen < self._policy.worthwhile + 0.1:
                    self._base = knee(self._below, reading, self._tokens)
                    self._climbing = False
                    self._held = []
                    self._best.correct(reading, self._tokens)
                    return
                gain = min(1.0, max(0.25, seen))
        if self._first_tokens.known and reading.in_flight > _GENTLE_FROM:
            gain = min(gain, _GENTLE)
        # A climb that never ends, because not all permits are used, remembers no more for it.
        self._below = [*self._below[-1:], reading]
        # Unused permits are no evidence: grow from what was in flight.
        reached = min(self._base, 1.25 * reading.in_flight + 1)
        self._base = max(reached * (1 + gain), reached + 1)

    # -- holding ---------------------------------------------------------------------------

    def _adjust(self, reading: Reading, now: float) -> None:
        held = self._held
        self._accept_slump(reading, now)
        if held:
            shift = unexplained(held[-1], reading, self._tokens)
            if shift < 0:
                self._held = [reading]
                if self._best.reading is reading:
                    self._start_climb(reading, now)
                return
            if shift > 0 and self._side and not self._first_tokens.known:
                self._base = max(1.0, self._base * math.exp(-shift))
                self._held = []
                return
        if self._side == 0:
            self._side = 1
            if self._probed(held[-1] if held else None, reading, now):
                return
        else:
            self._side = -self._side
        if self._may_regain(reading, now):
            self._regained_at = now
            self._start_climb(reading, now)
            return
        held.append(reading)
        self._rounds += 1
        room = min(self._cap(now), self._refusals.ceiling)
        if self._rounds >= _ROUNDS_BETWEEN_PROBES and self._base < 0.95 * room:
            held[:-1] = []
            self._rounds = self._side = 0
        if len(held) < 3:
            return
        del held[:-_WINDOW]
        seen = local_elasticity(held, self._tokens, self._policy.worthwhile)
        worth = seen.value - self._policy.worthwhile
        sure = math.copysign(max(0.0, abs(worth) - 0.5 * seen.error), worth)
        step = max(-0.06, min(0.08, _GAIN * sure))
        self._base = max(1.0, self._base * math.exp(step))
        best = self._best.reading
        if best is not None:
            self._base = min(self._base, max(_BEYOND_BEST * best.in_flight, best.in_flight + 1))

    def _burst_seconds(self, reading: Reading) -> float:
        return max(_BURST, 3 * reading.mean_latency)

    def _accept_slump(self, reading: Reading, now: float) -> None:
        """What lasts is no burst: the best of before is not to be had any more."""
        began, best = self._slump_began, self._best.reading
        if began is None or best is None or now - began < self._burst_seconds(reading):
            return
        self._slump_began = None
        share = min(1.0, reading.in_flight / best.in_flight)
        if reading.rate(self._tokens) < 0.9 * share * best.rate(self._tokens):
            self._lasting_since = began
            self._best.replace(reading)

    def _may_regain(self, reading: Reading, now: float) -> bool:
        """Whether far less is sent than once went well, with answers no slower than then."""
        best = self._best.reading
        if best is None or now - self._regained_at < max(5.0, 3 * best.mean_latency):
            return False
        room = min(best.in_flight, self._cap(now), self._refusals.ceiling)
        if self._base > 0.9 * room:
            return False
        return reading.latency(self._tokens) < 1.1 * best.latency(self._tokens)

    def _probed(self, full: Reading | None, probe: Reading, now: float) -> bool:
        """After a round at much less: whether the limit was far past the knee."""
        if full is None or probe.in_flight > 0.95 * full.in_flight:
            return False
        seen = elasticity(probe, full, self._tokens)
        if seen > 0.5 * self._policy.worthwhile:
            return False
        # As many answers with fewer in flight: go on down until it costs something.
        self._base = max(1.0, probe.in_flight)
        self._held = [probe]
        self._side = 0
        return True

    # -- sudden changes --------------------------------------------------------------------

    def _watch_for_changes(self, latency: float, tokens: int, in_flight: float, now: float) -> None:
        reference = self._reference
        if reference is None or self._climbing:
            return
        self._watch.add(latency, tokens, in_flight, reference, self._tokens)
        shortest = max(_SHORTEST_ROUND, 0.2 * reference.mean_latency)
        shift = self._watch.verdict(self.limit, shortest, now)
        if shift is None:
            return
        self._watch = Watch(now)
        if shift:
            self._sudden(shift, in_flight, now)

    def _sudden(self, shift: float, in_flight: float, now: float) -> None:
        assert self._reference is not None  # noqa: S101 - checked by the caller
        factor = math.exp(shift)
        self._reference = self._reference._replace(
            at=now,
            in_flight=in_flight,
            mean_latency=self._reference.mean_latency * factor,
            pace=self._reference.pace * factor,
        )
        if shift > 0:
            self._slump(shift, now)
        elif not self._recovered(now):
            self._start_climb(self._reference, now)

    def _slump(self, shift: float, now: float) -> None:
        """It became slower by itself: send less at once."""
        if self._slump_began is None:
            self._slump_began = now
        if self._first_tokens.known:
            # Then a queue is seen as such; a slower pace alone is no reason to send less.
            return
        self._base = max(float(self._policy.minimum), self._base * math.exp(-shift))
        self._hold(now)

    def _recovered(self, now: float) -> bool:
        """Whether it only became what it was; then the limit is, too."""
        best, reference = self._best.reading, self._reference
        assert reference is not None  # noqa: S101 - set by the caller
        self._slump_began = None
        if self._lasting_since is not None:
            self._headroom.forget()
            self._lasting_since = None
        if best is None or reference.rate(self._tokens) > 1.1 * best.rate(self._tokens):
            self._best.replace(reference)
            self._headroom.forget()
            return False
        self._base = max(self._base, best.in_flight)
        self._hold(now)
        return True

    # -- the limit -------------------------------------------------------------------------

    @property
    def _used(self) -> float:
        """What was in flight in the last round."""
        return self._reference.in_flight if self._reference else float(self._policy.initial)

    def _cap(self, now: float) -> float:
        return self._advice.within(self._headroom.cap(self._used, now))

    def _set_limit(self, now: float) -> None:
        wanted = self._base
        cap = self._cap(now)
        if wanted > cap:
            self._base = wanted = cap
            if self._climbing:
                self._climbing, self._held = False, []
        if not self._climbing:
            wanted *= 1 + self._side * _DITHER if self._side else _PROBE
        wanted = min(max(wanted, self._advice.least), self._refusals.allowed(now))
        self._base = min(self._base, float(self._policy.maximum))
        limit = min(self._policy.maximum, max(self._policy.minimum, round(wanted)))
        self.limit = limit
