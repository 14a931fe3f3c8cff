"""This package's `generate()` with one layer switched on, for each layer that can be."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir
from typing import Any

from batch_gateway import (
    CacheConfig,
    CoalescePolicy,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
)
from batch_gateway.client.interfaces.instrumentation import Observer, RequestFinished
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.http.tls import TLSConfig
from benchmarks.contenders.contract import Open, Send, Target
from benchmarks.payload import EVENT_COUNT, REQUEST

__all__ = ["ALL", "DEFAULT", "LAYERS", "layered"]

DEFAULT = "default"
OBSERVER = "an observer"
STREAMED = f"streamed answers of {EVENT_COUNT} events"
CACHE_HITS = "cache, every answer in it"
ALL = "all of them"


class _Counting(Observer):
    """The least that an observer can do."""

    def __init__(self) -> None:
        self.finished = 0

    def request_finished(self, event: RequestFinished) -> None:
        self.finished += 1


def _prometheus() -> Observer:
    from prometheus_client import CollectorRegistry

    from batch_gateway.metrics.prometheus import PrometheusMetrics

    return PrometheusMetrics(CollectorRegistry())


def _request_log() -> Observer:
    from batch_gateway.metrics.request_log import RequestLog

    logging.getLogger("batch_gateway").setLevel(logging.WARNING)
    return RequestLog()


def _report() -> Observer:
    from batch_gateway.report.collector import RunCollector

    return RunCollector()


def _new_cache() -> CacheConfig:
    # One folder for all: a measured process ends without clearing up.
    folder = Path(gettempdir()) / "batch-gateway-benchmark-cache"
    rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return CacheConfig(folder / "answers")


def _held() -> AdaptiveConcurrency:
    # It counts and measures and decides, but all find the same number in flight.
    return AdaptiveConcurrency(initial=1_000, minimum=1_000, maximum=1_000)


def _no_limit_reached() -> RateLimit:
    return RateLimit(requests_per_minute=1_000_000_000, tokens_per_minute=1_000_000_000_000)


LAYERS: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    # What it adds: settings of HTTPInferenceClientConfig, or observers.
    OBSERVER: lambda: {"observers": [_Counting()]},
    "Prometheus": lambda: {"observers": [_prometheus()]},
    "request log at warning": lambda: {"observers": [_request_log()]},
    "collecting for a report": lambda: {"observers": [_report()]},
    "circuit breaker": lambda: {"circuit_breaker": CircuitBreakerPolicy()},
    "adaptive concurrency, held at 1,000": lambda: {"concurrency": _held()},
    "rate limit, not reached": lambda: {"rate_limit": _no_limit_reached()},
    "scheduling hints": lambda: {"scheduling": SchedulingHints(objective="batch")},
    "coalescing, nothing to join": lambda: {"coalesce": CoalescePolicy(32)},
    CACHE_HITS: lambda: {"cache": _new_cache()},
    "cache, every request new": lambda: {"cache": _new_cache(), "distinct": True},
    STREAMED: lambda: {"stream_upstream": True, "path": "/events"},
}


def layered(name: str) -> Open:
    """Opens a client with the layer `name` of LAYERS, with none, or with ALL of them."""
    # The first is there three times over, in real ones; the others are another answer, and none.
    names = (
        [one for one in LAYERS if one not in (OBSERVER, STREAMED, CACHE_HITS)]
        if name == ALL
        else []
        if name == DEFAULT
        else [name]
    )

    @asynccontextmanager
    async def open_client(target: Target) -> AsyncIterator[Callable[[], Send]]:
        settings: dict[str, Any] = {}
        observers: list[Observer] = []
        for layer in names:
            added = dict(LAYERS[layer]())
            more: Sequence[Observer] = added.pop("observers", ())
            observers += more
            settings |= added
        distinct = settings.pop("distinct", False)
        numbers = count()
        config = HTTPInferenceClientConfig(
            target.url + settings.pop("path", ""),
            max_idle_connections=target.in_flight,
            tls=TLSConfig(ca_file=target.ca_file),
            **settings,
        )
        async with HTTPInferenceClient(config, observers=observers) as client:

            async def send() -> str:
                params = {**REQUEST, "user": str(next(numbers))} if distinct else REQUEST
                response = await client.generate(InferenceRequest(params=params))
                return response.json()["choices"][0]["message"]["content"]

            yield lambda: send
            await asyncio.sleep(0)

    return open_client
