"""A quota of requests: a token bucket, and the 429 of who is beyond it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from batch_gateway.simulator.answers.replies import PLAIN, Reply, openai_error

if TYPE_CHECKING:
    from batch_gateway.simulator.simulator_config import RefusalStyle

__all__ = ["TokenBucket", "beyond_quota"]


class TokenBucket:
    """So many requests a second on average, and `burst` at once after a rest. Knows no clock."""

    def __init__(self, per_second: float, burst: int, now: float = 0.0) -> None:
        self.per_second = per_second
        self.burst = burst
        self._tokens = float(burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0, or return the seconds until there is one."""
        earned = self.per_second * (now - self._at)
        self._tokens = min(self.burst, self._tokens + earned)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.per_second


def beyond_quota(seconds: float, bucket: TokenBucket, style: RefusalStyle) -> Reply:
    """The refusal of a request that would have its token in so many seconds.

    Before llm-d it is the gateway that limits rates, and Envoy's says nothing of when to come
    back (`x-envoy-ratelimited` and no more); OpenAI's tells the limit and when there is room.
    """
    if style == "llm-d":
        return Reply(429, b"", PLAIN, (("x-envoy-ratelimited", "true"),))
    per_minute = 60 * bucket.per_second
    return openai_error(
        429,
        f"Rate limit reached: {per_minute:g} requests a minute.",
        code="rate_limit_exceeded",
        headers=(
            # Whole seconds (RFC 9110, 10.2.3).
            ("retry-after", str(math.ceil(seconds))),
            ("x-ratelimit-limit-requests", f"{per_minute:g}"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", f"{math.ceil(1000 * seconds)}ms"),
        ),
    )
