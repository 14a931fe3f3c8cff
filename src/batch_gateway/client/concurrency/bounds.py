"""What no limit is beyond: the policy, refusals, others on the server, and advice."""

from __future__ import annotations

import math

from batch_gateway.client.concurrency.crowd import Crowd
from batch_gateway.client.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.concurrency.refusals import Refusals
from batch_gateway.concurrency.server_load import Advice

__all__ = ["Bounds"]


class Bounds:
    """Bounds from all sides, for a controller that has found how many would be best.

    Attributes:
        advice: of whoever sees more of the gateway than we do.
    """

    def __init__(self, policy: AdaptiveConcurrency, refusals: Refusals, crowd: Crowd) -> None:
        self._policy = policy
        self._refusals = refusals
        self._crowd = crowd
        self.advice = Advice()

    @property
    def stand_still(self) -> bool:
        """Whether time alone moves none of them."""
        return self._refusals.ceiling == math.inf and self._crowd.leaves_all

    def cap(self, used: float, now: float) -> float:
        """What others on the server leave, where `used` was in flight in the last round."""
        return self.advice.within(self._crowd.cap(used, now))

    def room(self, used: float, now: float) -> float:
        """The same, as far as nothing is refused."""
        return min(self.cap(used, now), self._refusals.ceiling)

    def clamp(self, base: float) -> float:
        """Within what the policy allows."""
        return min(float(self._policy.maximum), max(float(self._policy.minimum), base))

    def limit(self, wanted: float, now: float) -> int:
        """The nearest to what is wanted, now and then a little more than was refused once."""
        allowed = min(max(wanted, self.advice.least), self._refusals.allowed(now))
        return min(self._policy.maximum, max(self._policy.minimum, round(allowed)))
