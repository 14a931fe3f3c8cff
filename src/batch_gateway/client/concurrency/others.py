"""Others on the same server, who come in bursts: seen by what they do to our answers."""

from __future__ import annotations

import math

__all__ = ["Others"]

_BEGINS, _ENDS = 0.18, 0.10  # logarithmic slow-down against the quiet level
_BURST = 15.0  # seconds; slower for longer is no burst of others but another server
_BLOCKS = 2  # of answers, that must agree
_QUIET, _STEP = 0.3, 0.03  # the quiet level is this quantile; how fast it follows
_UP, _DOWN = 0.5, 0.15  # how fast the depth follows deeper and shallower bursts
_FIRST_BLOCKS = 20
_SHARE = 0.75
_ROOM, _DEEP = 0.37, 0.28
_HALF_LIFE, _MOST_HALVES = 300.0, 4
_BURSTS, _NOTICED = 1, 0.10


class Others:
    """Remembers how deep bursts cut into our throughput.

    A burst is a slow-down that nothing of ours explains and that is soon over. While it lasts,
    the same number in flight brings `exp(-depth)` of the answers: that share of what fits in
    quiet times is what others leave when they come. It is remembered for minutes, and longer
    the more often they came.
    """

    def __init__(self) -> None:
        self._latency = 0.0
        self._in_flight = 1.0
        self._began: float | None = None
        self._depths: list[float] = []
        self._lowest = (0.0, 1.0)
        self._depth = 0.0
        self._bursts = 0
        self._blocks = 0
        self._at = 0.0

    def block(self, latency: float, in_flight: float, now: float) -> None:
        """Some answers came: mean seconds of a typical one, with so many in flight."""
        if not self._latency:
            self._latency, self._in_flight = latency, in_flight
            return
        change, grown = math.log(latency / self._latency), math.log(in_flight / self._in_flight)
        slower = change - max(0.0, grown)
        if self._began is not None:
            self._during(change - _SHARE * grown, latency, in_flight, now)
        elif slower > _BEGINS:
            self._began = now
            self._depths = [slower]
            self._lowest = (latency, in_flight)
        else:
            self._follow(change - grown / 2, in_flight)

    def _follow(self, slower: float, in_flight: float) -> None:
        """Towards the quantile `_QUIET` of latency, whatever the size of what is above."""
        self._blocks += 1
        step = _STEP * (_QUIET if slower > 0 else _QUIET - 1)
        if (slower < 0 and self._blocks <= _FIRST_BLOCKS) or slower < -_BEGINS:
            step = 0.7 * slower
        grown = 0.1 * math.log(in_flight / self._in_flight)
        self._latency *= math.exp(step + grown / 2)
        self._in_flight *= math.exp(grown)

    def _during(self, slower: float, latency: float, in_flight: float, now: float) -> None:
        assert self._began is not None  # noqa: S101 - checked by the caller
        if slower > max(_ENDS, 0.4 * max(self._depths)):
            self._depths.append(slower)
            if latency / in_flight < self._lowest[0] / self._lowest[1]:
                self._lowest = (latency, in_flight)
            if now - self._began > max(_BURST, 4 * latency):
                self._began = None
                self._latency, self._in_flight = self._lowest
            return
        self._began = None
        depths = sorted(self._depths)
        if len(depths) >= _BLOCKS:
            self._learn(depths[-_BLOCKS], now)

    def _learn(self, depth: float, now: float) -> None:
        before = self.depth(now)
        self._bursts += 1
        if self._bursts == 1:
            self._depth = depth
        else:
            self._depth = before + (depth - before) * (_UP if depth > before else _DOWN)
        self._at = now

    def depth(self, now: float) -> float:
        """Logarithm of how much slower bursts make our answers; 0 when there are none."""
        if not self._bursts:
            return 0.0
        half_life = _HALF_LIFE * min(_MOST_HALVES, self._bursts)
        return self._depth * 0.5 ** ((now - self._at) / half_life)

    def share(self, now: float) -> float:
        """How much of what fits in quiet times leaves others their room when they come."""
        return 1.0 - _ROOM * min(1.0, self.depth(now) / _DEEP)

    def known(self, now: float) -> bool:
        return self._bursts >= _BURSTS and self.depth(now) > _NOTICED
