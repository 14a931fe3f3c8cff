"""How many requests may be under way at a gateway: a fixed number, or one that is found."""

from __future__ import annotations

from dataclasses import dataclass

from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.config_checks import require_count, require_kinds, require_number
from batch_gateway.errors import ConfigError

__all__ = ["AdaptiveConcurrency", "FixedConcurrency"]


@dataclass(frozen=True)
class FixedConcurrency:
    """Never more than `limit` attempts under way. Raises ConfigError."""

    limit: int

    def __post_init__(self) -> None:
        require_count("concurrency.limit", self.limit, minimum=1)


@dataclass(frozen=True, kw_only=True)
class AdaptiveConcurrency:
    """Finds the limit by measuring. Raises ConfigError.

    Attributes:
        initial: where it starts.
        minimum, maximum: it never leaves these.
        worthwhile: the least elasticity of throughput that a higher limit must show: 0.15 means
            that ten per cent more in flight must bring one and a half per cent more answers.
        gateway_metrics: pages on which the gateway says how loaded it is; None for none.
    """

    initial: int = 16
    minimum: int = 1
    maximum: int = 10_000
    worthwhile: float = 0.15
    gateway_metrics: GatewayMetrics | None = None

    def __post_init__(self) -> None:
        require_kinds(self, "concurrency.")
        require_number("concurrency.worthwhile", self.worthwhile)
        for name in ("initial", "minimum", "maximum"):
            require_count(f"concurrency.{name}", getattr(self, name), minimum=1)
        if not self.minimum <= self.initial <= self.maximum:
            raise ConfigError("concurrency.initial", "must be from minimum to maximum")
        if not 0 < self.worthwhile < 1:
            raise ConfigError("concurrency.worthwhile", "must be between 0 and 1")
