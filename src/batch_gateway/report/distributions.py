"""How long answers took and how fast they came, as distributions that are read as percentiles."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from batch_gateway.client.interfaces.instrumentation import Observer, RequestFinished
from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.engine.figures import Additive
from batch_gateway.histogram import Histogram

__all__ = ["DistributionCollector", "Distributions", "Percentiles"]


class Percentiles(msgspec.Struct, frozen=True):
    """What a distribution comes to. Mean and ends are exact, the rest within 9 %."""

    count: int
    min: float
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Histogram) -> Percentiles | None:
        """None where there are no values."""
        count = values.count
        if not count:
            return None
        p50, p90, p95, p99 = (values.quantile(share) or 0.0 for share in (0.5, 0.9, 0.95, 0.99))
        mean = values.sum / count
        return cls(count, values.lowest, mean, p50, p90, p95, p99, values.highest)


class Distributions(Additive):
    """Of the answers of a run, or of many.

    Attributes:
        latencies: seconds from the first sending to the answer, retries and waits included.
        first_tokens: seconds to the first token, of answers that were streamed.
        token_rates: tokens generated a second of latency, of answers that say how many.
    """

    latencies: Histogram = msgspec.field(default_factory=Histogram)
    first_tokens: Histogram = msgspec.field(default_factory=Histogram)
    token_rates: Histogram = msgspec.field(default_factory=Histogram)

    def count(self, answer: InferenceResponse, seconds: float) -> None:
        """One more answer, which took so many seconds."""
        self.latencies.add(seconds)
        if (first := answer.time_to_first_token) is not None:
            self.first_tokens.add(first)
        # What was not sent was not generated.
        if answer.attempts and seconds > 0 and (usage := answer.usage) and usage.output_tokens:
            self.token_rates.add(usage.output_tokens / seconds)

    def include(self, other: Distributions) -> None:
        """`other` is of more answers."""
        self.latencies += other.latencies
        self.first_tokens += other.first_tokens
        self.token_rates += other.token_rates

    def percentiles(self) -> Mapping[str, Percentiles | None]:
        """Under the names that programs know them by."""
        return {
            "latency_seconds": Percentiles.of(self.latencies),
            "time_to_first_token_seconds": Percentiles.of(self.first_tokens),
            "tokens_per_second": Percentiles.of(self.token_rates),
        }


class DistributionCollector(Observer):
    """An observer that keeps distributions and nothing else."""

    def __init__(self) -> None:
        self.distributions = Distributions()

    def request_finished(self, event: RequestFinished) -> None:
        if event.response is not None:
            self.distributions.count(event.response, event.duration)
