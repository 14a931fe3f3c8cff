"""How many of ours wait for a place, by whichever way it shows."""

from __future__ import annotations

from batch_gateway.client.concurrency.first_tokens import FirstTokens
from batch_gateway.client.concurrency.hidden_waits import MANY, HiddenWaits
from batch_gateway.concurrency.rounds import Reading

__all__ = ["MANY", "Waits"]


class Waits:
    """From first tokens where answers are streamed, and else from what length does not explain."""

    def __init__(self) -> None:
        self._first_tokens = FirstTokens()
        self._hidden = HiddenWaits()

    @property
    def seen(self) -> bool:
        """Whether answers are streamed, so that a wait can be told from a slow answer."""
        return self._first_tokens.known

    @property
    def usual(self) -> float | None:
        """Seconds to a first token without any wait; None where answers are not streamed."""
        return self._first_tokens.baseline

    @property
    def tell(self) -> bool:
        """Whether a wait shows at all, in whichever way."""
        return self.seen or self._hidden.known

    def first_token(self, seconds: float, rank: int, rate: float, now: float) -> float | None:
        """How many of ours fit without waiting, when too many waited; None as a rule."""
        return self._first_tokens.learn(seconds, rank, rate, now)

    def share(self, reading: Reading, tokens: float) -> float | None:
        """The share of those in flight that waited in a round; None where nothing tells."""
        if self.seen:
            return self._first_tokens.share(reading.rate(tokens), reading.in_flight)
        if self._hidden.tells(reading):
            return self._hidden.learn(reading, tokens)
        return None

    def lasting(self) -> float:
        """The share of those in flight that waited over the last rounds; 0 when few did."""
        return 0.0 if self.seen else self._hidden.lasting()

    def restart(self) -> None:
        """The limit is another one now."""
        self._hidden.restart()
