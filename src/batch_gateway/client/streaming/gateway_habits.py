"""What one gateway was seen to do with streams, so that nobody waits twice for what never comes."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_gateway.client.streaming.known_forms import KnownForms

__all__ = ["GatewayHabits"]

# After `[DONE]` the body ends, or should. Waiting for it makes the connection reusable.
_FAREWELL_SECONDS = 1.0
# A body that stays open may have been a hiccup: so seldom it is waited for again.
_TRIAL_EVERY = 64


class GatewayHabits:
    """Learnt by all requests to a gateway together.

    Attributes:
        says_done: whether `[DONE]` came after the last answer.
        takes_usage_option: whether it has not refused `stream_options`.
    """

    def __init__(self) -> None:
        self.says_done = True
        self.takes_usage_option = True
        self._open_bodies = 0

    @cached_property
    def forms(self) -> KnownForms:
        """Those of its answers. What reads streams is loaded by who sends some."""
        from batch_gateway.client.streaming.known_forms import KnownForms  # noqa: PLC0415

        return KnownForms()

    def wait_for_done(self, idle_timeout: float) -> float:
        """Seconds to wait for usage and `[DONE]` when every choice has ended."""
        return idle_timeout if self.says_done else min(_FAREWELL_SECONDS, idle_timeout)

    def wait_for_end(self) -> float:
        """Seconds to wait for the end of a body that has said all."""
        return 0.0 if self._open_bodies % _TRIAL_EVERY else _FAREWELL_SECONDS

    def body_ended(self, *, in_time: bool) -> None:
        self._open_bodies = 0 if in_time else self._open_bodies + 1
