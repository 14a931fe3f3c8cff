"""Requests through a client in which every layer has something to count."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from batch_gateway import (
    CacheConfig,
    CircuitBreakerPolicy,
    CoalescePolicy,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RateLimit,
    RetryPolicy,
)
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.metrics.prometheus import PrometheusMetrics

__all__ = ["use_every_layer"]


async def use_every_layer(url: str, folder: Path, metrics: PrometheusMetrics) -> None:
    """Some are answered from the cache, some together, one the second time and one never."""
    config = HTTPInferenceClientConfig(
        url,
        retry=RetryPolicy(max_retries=1, initial_backoff=0.001),
        cache=CacheConfig(folder / "cache.sqlite"),
        coalesce=CoalescePolicy(max_requests=4, max_wait=0.01),
        circuit_breaker=CircuitBreakerPolicy(),
        rate_limit=RateLimit(requests_per_minute=600, burst=0.001),
        concurrency=FixedConcurrency(4),
    )
    streaming = HTTPInferenceClientConfig(url, stream_upstream=True)
    async with (
        HTTPInferenceClient(config, observers=[metrics]) as client,
        HTTPInferenceClient(streaming, observers=[metrics]) as streaming_client,
    ):
        # The other model's request is not joined to these, so that one of both has to wait.
        asked = [("m", "a"), ("m", "b"), ("m", "a"), ("other", "a")]
        await asyncio.gather(*(client.generate(_completion(*each)) for each in asked))
        await client.generate(_completion("m", "a"))
        await client.generate(_completion("fault-status-503;times=1"))
        with pytest.raises(InferenceError):
            await client.generate(_completion("fault-status-400"))
        # Which reason a controller finds depends on the gateway; here it is one with a figure.
        client.events.limit_changed(4, Why(Reason.PACE, 6_000.0), True)
        # Long enough that the gateway need not read all of it again.
        for _ in range(2):
            await streaming_client.generate(_completion("m", "Hello! " * 50))


def _completion(model: str, prompt: str = "Hello!") -> InferenceRequest:
    return InferenceRequest(params={"model": model, "prompt": prompt})
