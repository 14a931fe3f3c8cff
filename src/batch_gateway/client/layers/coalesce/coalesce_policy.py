"""The settings of request batching, checked when they are made."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from batch_gateway.byte_size import ByteSize, byte_count, parse_byte_size
from batch_gateway.config_checks import (
    normalise_duration,
    require_count,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError

__all__ = ["MOST_REQUESTS", "CoalescePolicy"]

MOST_REQUESTS = 2048
"""Inputs that OpenAI's API takes in one request; other gateways take fewer or more."""

# The last of a batch wait so long for others that do not come.
_LONGEST_WAIT = 60.0


@dataclass(frozen=True)
class CoalescePolicy:
    """How many requests become one, and how long the first of them waits for the others.

    Attributes:
        max_requests: at most so many, 2 to 2,048.
        max_wait: how long the first waits, at most a minute.
        max_bytes: of the joint body; many gateways refuse more than 1 MiB.
    """

    max_requests: int
    _: KW_ONLY
    max_wait: Duration = 0.005
    max_bytes: ByteSize = 2**20

    def __post_init__(self) -> None:
        require_count("coalesce.max_requests", self.max_requests, minimum=2)
        if self.max_requests > MOST_REQUESTS:
            raise ConfigError("coalesce.max_requests", f"must be at most {MOST_REQUESTS}")
        normalise_duration(self, "max_wait", prefix="coalesce.")
        if seconds(self.max_wait) > _LONGEST_WAIT:
            raise ConfigError("coalesce.max_wait", f"must be at most {_LONGEST_WAIT:.0f}s")
        object.__setattr__(self, "max_bytes", parse_byte_size(self.max_bytes, "coalesce.max_bytes"))
        require_positive("coalesce.max_bytes", byte_count(self.max_bytes))
