"""What a batch wants of a client that a caller who waits for one answer does not."""

from __future__ import annotations

from dataclasses import replace

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.durations import Duration, seconds

__all__ = ["DEFAULT_PATIENCE", "MOST_CONCURRENCY", "paced", "patient_breaker"]

DEFAULT_PATIENCE = 1800.0

MOST_CONCURRENCY = 10_000
"""More is found by no controller on one machine's network, and needs as many open files."""

_DEFAULT_IDLE_CONNECTIONS = 100
_FIRST_LIMIT = AdaptiveConcurrency().initial
# One small request in so many seconds hurts no gateway, and work goes on soon after it is back.
_LONGEST_PROBE = 1.5
# No more than the attempts of one line, so that none is lost even when it is the only one.
_BROKEN_CONNECTIONS = RetryPolicy().max_retries + 1


def patient_breaker(patience: Duration | None = None) -> CircuitBreakerPolicy | None:
    """A batch waits for a gateway that went down; with a patience of 0 it fails line by line.

    Whoever says how long has one waited for, too, that never answered yet: it may be starting.
    """
    if patience is not None and not seconds(patience):
        return None
    return CircuitBreakerPolicy(
        when_open="wait",
        patience=DEFAULT_PATIENCE if patience is None else patience,
        after_success=patience is None,
        connect_failures=1,
        broken_connections=_BROKEN_CONNECTIONS,
        longest_probe=_LONGEST_PROBE,
    )


def paced(
    config: HTTPInferenceClientConfig, *, most: int, adaptive: bool
) -> HTTPInferenceClientConfig:
    """`config` for at most so many requests in flight, or for as many of them as prove best."""
    found = None
    if adaptive:
        asked = config.concurrency
        policy = asked if isinstance(asked, AdaptiveConcurrency) else AdaptiveConcurrency()
        found = replace(policy, maximum=most, initial=min(most, _FIRST_LIMIT))
    return replace(
        config,
        concurrency=found,
        # Each request in flight has a connection; fewer kept ones would be made anew.
        max_idle_connections=max(_DEFAULT_IDLE_CONNECTIONS, most),
    )
