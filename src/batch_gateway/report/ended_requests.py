"""Requests of one gateway and model that have ended, remembered until they are counted together."""

from __future__ import annotations

from msgspec.structs import astuple

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.errors import InferenceError
from batch_gateway.histogram import Histogram
from batch_gateway.report.distributions import Distributions
from batch_gateway.report.timeline import Totals
from batch_gateway.wire.usage import Usage

__all__ = ["EndedRequests"]


class EndedRequests:
    """A few numbers of each, and nothing of what it was answered with."""

    __slots__ = ("_failed", "_first_tokens", "_seconds", "_usages")

    def __init__(self) -> None:
        self._failed = 0
        self._seconds: list[float] = []
        # Of the same answers; None where nobody knows, or where it cost nothing.
        self._usages: list[Usage | None] = []
        self._first_tokens: list[float] = []

    def add(self, answer: InferenceResponse | InferenceError, seconds: float) -> None:
        """One more, which took so many seconds and was not given up under way."""
        if not isinstance(answer, InferenceResponse):
            self._failed += 1
            return
        self._seconds.append(seconds)
        # What was not sent for was not generated.
        self._usages.append(answer.figures()[0] if answer.attempts else None)
        if answer.time_to_first_token is not None:
            self._first_tokens.append(answer.time_to_first_token)

    def totals(self) -> Totals:
        """What they came to."""
        latencies = Histogram()
        latencies.add_all(self._seconds)
        counts = zip(*map(astuple, filter(None, self._usages)), strict=True)
        return Totals(len(self._seconds), self._failed, Usage(*map(sum, counts)), latencies)

    def distributions(self, totals: Totals) -> Distributions:
        """Of the answers among them, whose totals these are."""
        found = Distributions(totals.latencies)
        found.first_tokens.add_all(self._first_tokens)
        answers = zip(self._seconds, self._usages, strict=True)
        found.token_rates.add_all(
            [
                usage.output_tokens / seconds
                for seconds, usage in answers
                if usage is not None and usage.output_tokens and seconds > 0
            ]
        )
        return found
