"""From pages in Prometheus' text format to how loaded the servers behind a gateway are."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from batch_gateway.concurrency.server_load import Load

__all__ = ["KNOWN_METRICS", "Page", "combined", "read_page"]

# A model server's own gauges, one series an engine. vLLM docs/usage/metrics and
# vllm/v1/metrics/loggers.py (gpu_cache_usage_perc until 0.10); SGLang
# docs/references/production_metrics; llama.cpp tools/server/README.md. Shares are 0 to 1, whatever
# "perc" says.
_RUNNING = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "llamacpp:requests_processing",
)
_WAITING = (
    "vllm:num_requests_waiting",
    "sglang:num_queue_reqs",
    "llamacpp:requests_deferred",
)
_USAGE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage")

# Gauges of an endpoint picker, averages over the pool. llm-d/llm-d-router pkg/epp/metrics
# (metrics.go marks the names of the Gateway API Inference Extension, last here, deprecated) and
# kubernetes-sigs/gateway-api-inference-extension site-src/guides/metrics-and-observability.md.
_EPP, _ROUTER_EPP = "llm_d_epp_", "llm_d_router_epp_"
_POOL, _EXTENSION = "inference_pool_", "inference_extension_"


def _epp(name: str, old: str) -> tuple[str, ...]:
    return (_EPP + name, _ROUTER_EPP + name, old)


_AVERAGE_RUNNING = _epp("average_running_requests", f"{_POOL}average_running_requests")
_AVERAGE_WAITING = _epp("average_queue_size", f"{_POOL}average_queue_size")
_AVERAGE_USAGE = _epp("average_kv_cache_utilization", f"{_POOL}average_kv_cache_utilization")
_READY = _epp("ready_endpoints", f"{_POOL}ready_pods")
_HELD = _epp("flow_control_queue_size", f"{_EXTENSION}flow_control_queue_size")
_SATURATION = _epp("flow_control_pool_saturation", f"{_EXTENSION}flow_control_pool_saturation")

KNOWN_METRICS = (_WAITING[0], _WAITING[1], _AVERAGE_WAITING[0], _AVERAGE_WAITING[-1])
"""What a message may name for example."""

_ALL = (
    *(_RUNNING + _WAITING + _USAGE + _AVERAGE_RUNNING + _AVERAGE_WAITING),
    *(_AVERAGE_USAGE + _READY + _HELD + _SATURATION),
)
# Some collectors write an underscore for the colon.
_KNOWN = {written.encode(): name for name in _ALL for written in (name, name.replace(":", "_"))}
_NAMES = "|".join(name.decode() for name in _KNOWN)
_SAMPLE = re.compile(
    rf"^({_NAMES})(?:[ \t]*\{{([^\n]*)\}})?[ \t]+([^\s{{}}]+)[^\n]*$".encode(), re.MULTILINE
)

Series = Mapping[bytes, float]
_NONE: Series = {}


class Page(NamedTuple):
    """What one page says: of model servers by themselves, and of a pool by its picker.

    Attributes:
        held: requests in the picker's own queues.
    """

    servers: Load
    pool: Load
    held: float

    @property
    def is_known(self) -> bool:
        """Whether there was anything that we know the meaning of."""
        return any(value is not None for load in (self.servers, self.pool) for value in load[:4])


def read_page(body: bytes) -> Page:
    """Pick the known gauges out of a page; everything else, rubbish included, is passed over."""
    found: dict[str, dict[bytes, float]] = {}
    for match in _SAMPLE.finditer(body):
        value = _number(match[3])
        if value is not None:
            found.setdefault(_KNOWN[match[1]], {})[match[2] or b""] = value
    return Page(_servers(found), _pool(found), sum(_first(found, _HELD).values()))


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _servers(found: Mapping[str, Series]) -> Load:
    running, waiting = _all(found, _RUNNING), _all(found, _WAITING)
    usage = list(_first(found, _USAGE).values())
    return Load(
        running=sum(running) if running else None,
        waiting=sum(waiting) if waiting else None,
        kv_usage=sum(usage) / len(usage) if usage else None,
        servers=max(len(running), len(waiting), len(usage)),
    )


def _pool(found: Mapping[str, Series]) -> Load:
    ready = _first(found, _READY)
    usage = _first(found, _AVERAGE_USAGE)
    saturation = _first(found, _SATURATION)
    return Load(
        running=_total(_first(found, _AVERAGE_RUNNING), ready),
        waiting=_total(_first(found, _AVERAGE_WAITING), ready),
        kv_usage=max(usage.values(), default=None),
        saturation=max(saturation.values(), default=None),
        servers=round(sum(ready.values())),
    )


def _all(found: Mapping[str, Series], names: Iterable[str]) -> list[float]:
    return [value for name in names for value in found.get(name, {}).values()]


def _first(found: Mapping[str, Series], names: Iterable[str]) -> Series:
    """The series of the first name that is there: the others are older names of the same."""
    return next((found[name] for name in names if name in found), _NONE)


def _total(average: Series, ready: Series) -> float | None:
    if not average:
        return None
    return sum(value * ready.get(labels, 1.0) for labels, value in average.items())


def combined(pages: Iterable[Page]) -> Load | None:
    """One load of all pages; None when none of them says anything.

    Where model servers speak for themselves, a picker's averages of them are not counted again.
    """
    known = [page for page in pages if page.is_known]
    if not known:
        return None
    loads = [page.servers for page in known if page.servers.servers]
    loads = loads or [page.pool for page in known]
    running, waiting = (_sum(load[index] for load in loads) for index in (0, 1))
    held = sum(page.held for page in known)
    saturations = [page.pool.saturation for page in known if page.pool.saturation is not None]
    return Load(
        running=running,
        waiting=None if waiting is None else waiting + held,
        kv_usage=_mean_usage(loads),
        saturation=max(saturations, default=None),
        servers=sum(load.servers for load in loads),
    )


def _sum(values: Iterable[float | None]) -> float | None:
    said = [value for value in values if value is not None]
    return sum(said) if said else None


def _mean_usage(loads: Iterable[Load]) -> float | None:
    said = [(load.kv_usage, max(1, load.servers)) for load in loads if load.kv_usage is not None]
    if not said:
        return None
    return sum(usage * servers for usage, servers in said) / sum(count for _, count in said)
