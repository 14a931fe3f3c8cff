"""Everything that can be set about one gateway; checked when it is made."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.circuit_breaker import CircuitBreakerPolicy
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency, FixedConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.config_checks import normalise_duration, require_count, require_positive
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.wire.json_schema import JSONSchema
from batch_gateway.wire.sse import MAX_EVENT_BYTES

__all__ = ["HTTPInferenceClientConfig"]


@dataclass(frozen=True, kw_only=True)
class HTTPInferenceClientConfig(TransportConfig):
    """Everything about one gateway: how it is reached, and how requests are sent to it.

    Durations are seconds or Go-style strings. Equal configurations share one connection pool
    where several are given for several models.

    Attributes:
        transport: there is one transport, which is called "native" or "auto" where a configuration
            names it. Not kept; "aiohttp", which there once was beside it, is refused.
        stream_upstream: ask the gateway to stream its answers to `generate` and put them
            together here. `timeout` is then that of the first byte.
        stream_idle_timeout: how long a streamed answer may stand still once it has begun.
        max_event_bytes: a larger event of a stream is an error, and so is one that is larger
            than `max_response_bytes`.
        cache: where exact answers are kept; None keeps none.
        coalesce: how single prompts and inputs are sent together; None sends each alone.
        retry: the policy, or None to send everything once.
        circuit_breaker: when to stop sending to a gateway that fails; None never does.
        rate_limit: requests and tokens a minute; None for no limit.
        concurrency: how many attempts may be under way: a fixed number, or one that is found by
            measuring; None leaves it to the caller.
        scheduling: what llm-d and GAIE are told about each request; None for nothing.
        endpoint_picker: for `grpc://` and `grpcs://`; None for the defaults.
        json_schema: what each answer in words has to be. Any other answer is an error, which is
            tried again; None takes every answer.
    """

    transport: InitVar[str] = "native"
    stream_upstream: bool = False
    stream_idle_timeout: Duration = 60.0
    max_event_bytes: int = MAX_EVENT_BYTES
    cache: CacheConfig | None = None
    coalesce: CoalescePolicy | None = None
    retry: RetryPolicy | None = field(default_factory=RetryPolicy)
    circuit_breaker: CircuitBreakerPolicy | None = None
    rate_limit: RateLimit | None = None
    concurrency: AdaptiveConcurrency | FixedConcurrency | None = None
    scheduling: SchedulingHints | None = None
    endpoint_picker: EndpointPickerConfig | None = None
    json_schema: JSONSchema | None = None

    def __post_init__(self, transport: str) -> None:
        _check_transport(transport)
        super().__post_init__()
        normalise_duration(self, "stream_idle_timeout")
        require_positive("stream_idle_timeout", seconds(self.stream_idle_timeout))
        require_count("max_event_bytes", self.max_event_bytes, minimum=1)
        if self.json_schema is not None and self.coalesce is not None:
            raise ConfigError(
                "coalesce", "does not go with json_schema: one wrong answer would fail all of them"
            )
        if self.uses_endpoint_picker:
            self._check_picker_route()

    def _check_picker_route(self) -> None:
        if self.proxy is not None:
            raise ConfigError("proxy", "an endpoint picker and its pods are reached directly")
        if self.unix_socket is not None:
            raise ConfigError("unix_socket", "an endpoint picker is reached by its address alone")

    @property
    def uses_endpoint_picker(self) -> bool:
        """Whether the URL is that of an endpoint picker: `grpc://` or `grpcs://`."""
        return self.url.scheme in ("grpc", "grpcs")


def _check_transport(name: str) -> None:
    if name == "aiohttp":
        raise ConfigError(
            "transport",
            "there is no aiohttp any more, nor an extra of that name: leave this setting out. The"
            " one transport goes through proxies and reads odd answers as well",
        )
    if name not in ("auto", "native"):
        raise ConfigError("transport", f"{name!r} is none; there is one, so leave this setting out")
