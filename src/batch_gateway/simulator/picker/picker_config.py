"""How a simulated endpoint picker behaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_choice,
    require_count,
    require_kind,
    require_kinds,
    require_number,
)
from batch_gateway.durations import Duration
from batch_gateway.errors import ConfigError
from batch_gateway.simulator.picker.picker_faults import parse_picker_fault
from batch_gateway.simulator.server_tls import require_certificates
from batch_gateway.simulator.simulator_config import checked_rates

__all__ = ["Choice", "ErrorBody", "EvictionReason", "PickerConfig"]

Choice = Literal["least-loaded", "prefix", "round-robin", "random"]
ErrorBody = Literal["text", "json"]
EvictionReason = Literal["evicted", "evicted-priority", "evicted-queue-pressure"]


@dataclass(frozen=True, kw_only=True)
class PickerConfig:
    """Everything about a simulated picker.

    Attributes:
        choice: how a pod is chosen. "least-loaded" takes the one with the fewest requests;
            "prefix" weighs how much of the prompt a pod has read before against its load;
            "round-robin" and "random" look at neither.
        fallbacks: how many further endpoints are named behind the chosen one.
        rewrites: the model that is asked for instead, by the model of the request.
        session_affinity: hand out `x-session-token`, and send whoever brings it back to the
            same pod.
        flow_control: queue requests while the pods are full, by priority and in turn between
            fairness ids. Without it, requests of negative priority are refused meanwhile.
        queue_limit: how many may queue before a request is refused; None never refuses.
        queue_ttl: the longest wait in the queue, where the request does not say.
        ttl_status: of the refusal after it: 429, or 503 as before llm-d-router v0.10.
        error_body: of refusals: "text", as of llm-d-router v0.10, or "json", as of newer ones.
        queue_depth_threshold: waiting requests at which a pod counts as full.
        kv_cache_threshold: share of its KV cache in use at which it does.
        eviction: the dropped reason of requests under way with negative priority that must
            make room for a higher one that waits; None evicts nothing. Needs `flow_control`.
        seed: of random choices, and of who comes first among pods that are equally good.
        max_concurrent_streams: streams of one connection at a time; further ones are refused.
        max_connection_streams: streams after which a connection is told to go away.
        max_connection_age: seconds after which it is.
        ping_interval: how often a connection may be pinged; see grpc-go's enforcement policy.
        health_on_picker_port: answer health checks on the picker's port as well.
        tls_certificate, tls_key: PEM files that make it a grpcs server; both or neither.
        tls_client_ca: PEM file of the authority that client certificates must come from.
        faults: probability by picker fault, such as {"slow-pick=0.5": 0.1}.
        decisions_limit: how many decisions are remembered, the newest.
    """

    choice: Choice = "least-loaded"
    fallbacks: int = 0
    rewrites: Mapping[str, str] = field(default_factory=dict[str, str])
    session_affinity: bool = False
    flow_control: bool = False
    queue_limit: int | None = None
    queue_ttl: Duration = 60.0
    ttl_status: int = 429
    error_body: ErrorBody = "text"
    queue_depth_threshold: int = 5
    kv_cache_threshold: float = 0.8
    eviction: EvictionReason | None = None
    seed: int = 0
    max_concurrent_streams: int | None = None
    max_connection_streams: int | None = None
    max_connection_age: Duration | None = None
    ping_interval: Duration = 300.0
    health_on_picker_port: bool = False
    tls_certificate: PathLike | None = None
    tls_key: PathLike | None = None
    tls_client_ca: PathLike | None = None
    faults: Mapping[str, float] = field(default_factory=dict[str, float])
    decisions_limit: int = 20_000

    def __post_init__(self) -> None:
        require_kinds(self)
        require_kind("seed", self.seed, int)
        require_choice("choice", self.choice, Choice)
        require_choice("error_body", self.error_body, ErrorBody)
        for name, minimum in _COUNTS.items():
            if name not in _OPTIONAL or getattr(self, name) is not None:
                require_count(name, getattr(self, name), minimum=minimum)
        require_number("kv_cache_threshold", self.kv_cache_threshold)
        if not 0 < self.kv_cache_threshold <= 1:
            raise ConfigError("kv_cache_threshold", "must be more than 0 and at most 1")
        if self.ttl_status not in (429, 503):
            raise ConfigError("ttl_status", f"{self.ttl_status!r} is not 429 or 503")
        if self.eviction is not None:
            require_choice("eviction", self.eviction, EvictionReason)
        normalise_duration(self, "queue_ttl")
        normalise_duration(self, "ping_interval")
        if self.max_connection_age is not None:
            normalise_duration(self, "max_connection_age")
        require_certificates(self.tls_certificate, self.tls_key, self.tls_client_ca)
        object.__setattr__(self, "faults", checked_rates(self.faults, parse_picker_fault))
        object.__setattr__(self, "rewrites", MappingProxyType(dict(self.rewrites)))

    def with_changes(self, **changes: Any) -> PickerConfig:
        """A copy with some settings changed. Raises ConfigError for an unknown name."""
        unknown = sorted(set(changes) - set(self.__dataclass_fields__))
        if unknown:
            raise ConfigError(unknown[0], "is not a setting of the simulated picker")
        return replace(self, **changes)


_COUNTS = {
    "fallbacks": 0,
    "decisions_limit": 1,
    "queue_depth_threshold": 1,
    "queue_limit": 0,
    "max_concurrent_streams": 1,
    "max_connection_streams": 1,
}
_OPTIONAL = {"queue_limit", "max_concurrent_streams", "max_connection_streams"}
