"""A door for streamed answers: only so many of ours may wait for their first token at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

from batch_gateway.concurrency.events import Started

__all__ = ["Door", "Window"]

_SPAN = 0.25  # seconds of a window: a few steps of an engine
_FEWEST = 8  # first tokens and ends in a window; fewer tell nothing
_SHORT = 0.1  # seconds: what comes sooner is felt as at once (Nielsen, 1993)
_LEAST = 3  # may wait however few do as a rule, as ends come in groups
_TIMES = 2  # so many times as many as usual may wait, or groups would be held up
# Late is a first token after so many times the usual, and after that share of `_SHORT` more: a
# little less than behind as many as may wait.
_SLOW, _SLOWER = 1.5, 0.75
# Answers of ours that end before a first token comes, over as many as do as a rule, where others
# have the seats; in the few of one window so many standard errors of a count more.
_BEHIND, _CHANCE = 2.0, 3.0
_AS_MANY = 1.25  # first tokens for each end, where requests get in only as others go out
_TWICE = 2  # windows in a row that must agree
_DOWN, _UP = 0.05, 0.01  # of the way a window that what is usual follows: a low quantile
_MOST_RISE = 3.0
_FORGET = 120.0  # seconds that what is usual follows in while the server seems full
# Seconds, and answers of ours: what is late for longer is usual from then on, as ours came down.
_LONG, _LONG_IN_ANSWERS = 6.0, 2.0
_STREAMED = 0.8  # of the answers; of fewer nothing can be told
_ANSWERS = 16  # that this share looks back over


class Window(NamedTuple):
    """What was seen in a quarter of a second or more.

    Attributes:
        placed: ours that had their first token, on the mean: the rest waited.
        full: whether ours only get in as others go out.
        late: whether first tokens came later than they do as a rule.
        lasts: whether the server was full for long, though ours came down.
    """

    placed: float
    full: bool
    late: bool = False
    lasts: bool = False


class Door:
    """Counts ours that were sent and have no first token yet, and closes when they are many.

    Whoever shares the server waits behind them, so what is sent never makes anybody wait longer
    than those take: at most `_SHORT` seconds, or `_TIMES` as many as are there as a rule. In the
    queue of a switch this is a bound on packets in the buffer, as in TCP Vegas (Brakmo and
    Peterson, 1995). A count of requests stays the same when a server becomes slow or stands
    still, since nothing ends there and nothing is sent; seconds would not.

    The server is full when the door is closed for most of two windows, first tokens come late by
    the clock and by the answers that end meanwhile, and no more come than answers end. Where all
    is slow, as few answers end meanwhile as ever. Where many come at once, prompts are read: what
    was sent together waits for each other. While the server is full only as many may wait as are
    there as a rule, so that ours come down with the room that others leave.

    Attributes:
        listens: whether any answer was streamed, so that it must be told of each request.
        watches: whether answers are streamed, and it is known what is usual: who waits is known.
        full: whether the server is just now.
        queues: whether it was in the last round, on the whole.
        shared: whether others are known, who need not be proved again; set by whoever knows.
        claim: up to so many in flight do not come down while the server is full; likewise.
        rate: answers a second, as the last round had it; 0 where none is over yet.
    """

    def __init__(self) -> None:
        self.listens = self.watches = self.full = self.queues = self.shared = False
        self.rate = self.claim = 0.0
        self._round_passed = self._round_expected = 0.0
        self._waiting: dict[int, int] = {}
        self._answers = 0
        self._streamed = 0.0
        self._in_flight = 0
        self._usual: float | None = None
        self._seconds: float | None = None
        self._times = 0
        self._most = _LEAST
        self._full_since = 0.0
        self._begin(0.0)

    def allowed_now(self, in_flight: int) -> int:
        """While `watches`: those of ours that have a place, and a few that may wait for one, and
        as many more as were just refused, which waited for none."""
        waiting = self._most
        if self.full and in_flight > self.claim:
            waiting = round((self._usual or 0.0) * in_flight) or 1
        return in_flight - len(self._waiting) + waiting + self._failed

    # -- events ----------------------------------------------------------------------------

    def sent(self, started: Started, in_flight: int, now: float) -> None:
        """A request was sent, and so many are in flight with it."""
        self._pass_time(in_flight, now)
        self._waiting[id(started)] = self._answers

    def first_token(
        self,
        started: Started,
        seconds: float,
        in_flight: int,
        now: float,
        heard_after: float = 0.0,
    ) -> bool:
        """The first token of an answer was heard so many seconds after it was sent, `heard_after`
        of them after it had come. Whether more is known by that."""
        if not self.listens:
            self.listens = True
            self._begin(now)
        self._pass_time(in_flight, now)
        answers = self._waiting.pop(id(started), None)
        if answers is None:
            return False
        self._begun += 1
        # One that may have come at once says nothing of what is usual; and of the answers that
        # were heard before one that came early, as many ended before it as its wait is of the time.
        if heard_after < seconds:
            self._passed += (self._answers - answers) * (1 - heard_after / seconds)
            self._first += 1
            self._first_seconds += seconds - heard_after
        return self._look(now)

    def ended(self, started: Started, answered: bool, in_flight: int, now: float) -> None:
        """A request ended, and so many are left."""
        self._pass_time(in_flight, now)
        waited = self._waiting.pop(id(started), None) is not None
        if answered:
            self._ended += 1
            self._answers += 1
            self._streamed += ((not waited) - self._streamed) / _ANSWERS
            known = self._usual is not None and self.rate > 0
            self.watches = known and self._streamed >= _STREAMED
        else:
            self._failed += 1
            self._begun += waited
        self._look(now)

    def learn(self, rate: float) -> None:
        """A round of requests brought so many answers a second."""
        self.rate = rate
        self.queues = self._round_passed > _BEHIND * self._round_expected
        self._round_passed = self._round_expected = 0.0

    def _pass_time(self, in_flight: int, now: float) -> None:
        passed = now - self._now
        if passed > 0.0:
            waiting = len(self._waiting)
            self._waiting_area += waiting * passed
            self._area += self._in_flight * passed
            if waiting >= self._most:
                self._closed += passed
            self._now = now
        self._in_flight = in_flight

    # -- windows ---------------------------------------------------------------------------

    def heed(self, window: Window, now: float) -> None:
        """What a window that is over shows; for whoever learns from it."""

    def _begin(self, now: float) -> None:
        self._began = self._now = now
        self._waiting_area = self._area = self._closed = self._first_seconds = 0.0
        self._begun = self._ended = self._failed = self._first = self._passed = 0

    def _look(self, now: float) -> bool:
        """Whether a window is over."""
        span = now - self._began
        if span < _SPAN or self._begun + self._ended < _FEWEST or not self._first:
            return False
        share = self._waiting_area / max(self._area, span)
        seconds = self._first_seconds / self._first
        if self._usual is None or self._seconds is None:
            self._usual, self._seconds = share, seconds
        late = seconds > max(_SLOW * self._seconds, self._seconds + _SLOWER * _SHORT)
        waits = self._waits(late, span)
        if not self.full:
            self._full_since = now
        longest = max(_LONG, _LONG_IN_ANSWERS * self._in_flight / (self.rate or 1.0))
        lasts = now - self._full_since > longest
        if lasts:
            # Ours came down, and still: what takes so long is no queue, or for others to mend.
            self._usual, self._seconds, self.full = share, seconds, False
        up = span / _FORGET if waits else _UP
        self._usual = _followed(self._usual, share, up)
        self._seconds = _followed(self._seconds, seconds, up)
        usual = self._usual * self._in_flight
        self._most = round(max(_LEAST, _TIMES * usual, usual + _SHORT * self.rate))
        placed = (self._area - self._waiting_area) / span
        self._begin(now)
        self.heed(Window(placed, self.full, late, lasts), now)
        return True

    def _waits(self, late: bool, span: float) -> bool:
        """Whether a queue held ours up in the window that is over; settles `full`."""
        if self._failed > self._ended:
            # Ours became fewer by themselves.
            late = False
        closed = self._closed > span / 2
        at_most = _AS_MANY * min(self._ended, self.rate * span) + 1
        # By Little's law as many begin, and so end, in that time as wait.
        expected = self._first * (self._usual or 0.0) * self._in_flight
        behind = self.shared or self._passed > _BEHIND * expected + _CHANCE * math.sqrt(expected)
        self._round_passed += self._passed
        self._round_expected += expected
        full = late and closed and behind and self._begun <= at_most and self.watches
        self._times = self._times + 1 if full else 0
        waits = late and (self.full or closed)
        self.full = self._times >= _TWICE or (self.full and late)
        return waits


def _followed(usual: float, seen: float, up: float) -> float:
    if seen < usual:
        return usual + _DOWN * (seen - usual)
    return usual + min(1.0, up) * (min(seen, _MOST_RISE * usual) - usual)
