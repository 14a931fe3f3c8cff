"""How many of ours only wait at the server, told from the latency that no length explains."""

from __future__ import annotations

from batch_gateway.concurrency.rounds import Reading

__all__ = ["Waits"]

# Of a hundred in flight five may wait, of more more by this power of the share: between the square
# root by which arrivals and ends fluctuate (0.5; Halfin and Whitt, 1981) and the few of TCP Vegas,
# whatever the number (1). In one queue all see the same share, and may make less of it the more
# they are, so that clients of one server come to like numbers, the sooner the greater the power.
_MAY_WAIT, _POWER = 0.05, 0.75
_MOST_MAY = 0.25  # of those in flight
_LEAST_MAY = 0.04  # rounds scatter by half of it anyway, as what runs changes
# Standard error of the wait, as a share of latency, beyond which a round tells nothing of it.
_TELLS = 0.05
# The lowest share follows down at once, and up by so much of what is above it: of what waits for
# others, whatever we do, half counts as none after some seventy rounds.
_RISE = 0.01
_FORGET = 0.8  # weight of the rounds so far at each new one: about five rounds count
_MOST_OVER = 2.0  # of those that may wait, of a single round
# Too many wait on average of several rounds, or in the first after a raise.
_LASTS, _AT_ONCE = 0.6, 1.0


class Waits:
    """Compares the wait in readings with the least that was seen, as TCP Vegas does with the round
    trip (Brakmo and Peterson, 1995), where answers of different lengths tell it from the work.

    As a share of the latency, so that a server that does everything more slowly is not taken for
    a queue.

    Attributes:
        share: of those in flight that only waited in the last round; 0 where nothing tells.
        may: the share that may; 0 where nothing tells.
        over: the share of those that may by which more do, on average of the last rounds at this
            level; -1 where nobody does, 0 where nothing tells. A slow-down that begins or ends
            within a round looks like a wait, or like less than none.
        rounds: of those that told anything.
    """

    def __init__(self) -> None:
        self._lowest = 1.0
        self.share = self.may = 0.0
        self.begin()

    def begin(self) -> None:
        """At another level."""
        self.rounds = 0
        self.over = self._weight = 0.0

    def learn(self, reading: Reading, tokens: float) -> None:
        """What a round says, at answers of `tokens`."""
        latency = reading.latency(tokens)
        raw, error = 1 - reading.pace * tokens / latency, reading.wait_error / latency
        # The lowest of many that scatter is lower than any that holds.
        lowest = min(self._lowest + _RISE * (raw - self._lowest), raw + error)
        self._lowest = max(0.0, lowest)
        # Where hardly anything depends on the length, hardly anything is told by it.
        rest = 1 - self._lowest
        self.share = self.may = 0.0
        if error >= _TELLS * rest:
            return
        self.share = (raw - self._lowest) / rest
        # Of many fewer might than a round can tell from none, and chance would hold them down.
        may = min(_MOST_MAY, _MAY_WAIT * (100 / reading.in_flight) ** _POWER)
        self.may = max(_LEAST_MAY, 2 * error / rest, may)
        self.rounds += 1
        self._weight = _FORGET * self._weight + 1
        self.over += (min(_MOST_OVER, self.share / self.may - 1) - self.over) / self._weight

    def too_many(self, *, raised: bool) -> bool:
        """Whether more than may surely wait, though it may have been just one round at a level
        that was `raised`."""
        return self.over > _LASTS if self.rounds > 1 else raised and self.over > _AT_ONCE
