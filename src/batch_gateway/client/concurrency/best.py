"""The best throughput of late, and the smallest number in flight that brought it."""

from __future__ import annotations

from batch_gateway.concurrency.rounds import Reading

__all__ = ["Best"]

_MEMORY = 60.0
_AS_GOOD = 0.97
_WORTHWHILE = 0.2
_CLEARLY = 0.3
_FADE = 1.05


class Best:
    """A windowed maximum, as BBR keeps of the delivery rate (Cardwell and others, 2016).

    Fewer in flight with as good a rate replace it at once. More must bring more, clearly or
    twice in a row: a maximum of noisy readings would creep upwards by itself.
    """

    def __init__(self) -> None:
        self.reading: Reading | None = None
        self._better_once = False

    def learn(self, reading: Reading, tokens: float, now: float) -> None:
        """Compare a new reading with the best, at answers of `tokens`."""
        best = self.reading
        if best is None:
            self.reading = reading
            return
        share = reading.rate(tokens) / best.rate(tokens)
        more = reading.in_flight / best.in_flight
        once, self._better_once = self._better_once, False
        if more <= 1.05:
            if share >= _AS_GOOD or now - best.at > _MEMORY:
                self.reading = reading
        elif share > more**_WORTHWHILE / _AS_GOOD:
            if once or share > more**_CLEARLY / _AS_GOOD:
                self.reading = reading
            self._better_once = True
        elif now - best.at > _MEMORY:
            self.reading = best._replace(
                at=now, mean_latency=best.mean_latency * _FADE, pace=best.pace * _FADE
            )

    def fit(self, room: float) -> float:
        """The number that brought it, as far as there is room."""
        return min(self.reading.in_flight, room) if self.reading else room

    def replace(self, reading: Reading) -> None:
        """The server is another one now."""
        self.reading = reading

    def correct(self, reading: Reading, tokens: float) -> None:
        """A climb ended here: a better throughput from before is not to be had now."""
        best = self.reading
        if best is not None and best.rate(tokens) > 1.1 * reading.rate(tokens):
            self.reading = reading
