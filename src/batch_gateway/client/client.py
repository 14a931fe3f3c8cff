"""The client object: the stack of layers around one gateway."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from batch_gateway.client.blocking import BlockingInferenceClient
from batch_gateway.client.build import build_exchanger
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.gateway_transport import ACCEPT_EVENTS, GatewayTransport
from batch_gateway.client.interfaces.instrumentation import GatewayEvents, Observer
from batch_gateway.client.interfaces.request import InferenceResponse, RequestLike
from batch_gateway.client.interfaces.transport import Transport
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from batch_gateway.client.layers.answer_check import AnswerCheckTransport
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.closing import ClosingTransport
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.instrumentation_layer import InstrumentationTransport
from batch_gateway.client.layers.key_renewal import KeyRenewalTransport
from batch_gateway.client.layers.retry import RetryTransport
from batch_gateway.client.layers.scheduling_hints import SchedulingTransport
from batch_gateway.client.prepare import prepare, prepare_stream
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.stream import InferenceStream
from batch_gateway.clock import SYSTEM_CLOCK, Clock
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.config_checks import require_kind
from batch_gateway.durations import seconds
from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPExchanger
from batch_gateway.http.own_loop import own_loop
from batch_gateway.http.proxies import proxy_of, proxy_remark
from batch_gateway.http.sent_secrets import redactor_of
from batch_gateway.http.target import Target

if TYPE_CHECKING:
    from batch_gateway.client.layers.concurrency.metrics_watch import (
        MetricsStatistics,
        MetricsWatch,
    )

__all__ = ["HTTPInferenceClient", "build_stack", "gateway_name"]

# A limit that is being found may rise at any time, and what waits is sent then. A number that
# stands is used up without: whose request has ended sends the next one, and waiting costs CPU.
_FEW_READY = 8
# Where so many fail, one more tells their gateway from them.
_TO_TELL_APART = 4
# Each request that waits for others to be sent with is in memory.
_MOST_TO_JOIN = 8192


def build_stack(
    config: HTTPInferenceClientConfig,
    exchanger: HTTPExchanger,
    clock: Clock,
    events: GatewayEvents,
    metrics: MetricsWatch | None = None,
) -> ClosingTransport:
    """The layers, innermost first; a request passes them from the bottom of this list up."""
    stack: Transport = _gateway_transport(config, exchanger, clock, events)
    if config.renew_key_from is not None and config.api_key is not None:
        stack = KeyRenewalTransport(
            stack, config.renew_key_from, config.api_key, config.api_key_header
        )
    if config.scheduling is not None:
        stack = SchedulingTransport(stack, config.scheduling, clock)
    admission = _admission(config, clock, events, metrics)
    if admission is not None:
        stack = AdmissionTransport(
            stack, admission, streams=config.stream_upstream, on_suspect=events.backed_off
        )
    if config.json_schema is not None:
        stack = AnswerCheckTransport(stack, config.json_schema)
    if config.retry is not None:
        stack = RetryTransport(
            stack,
            config.retry,
            clock,
            outlasts=None if admission is None else admission.outlasts,
            on_retry=events.retry_scheduled,
            on_backoff=events.backed_off,
        )
    if config.coalesce is not None:
        # Loaded only where it is used, as is the cache.
        from batch_gateway.client.layers.coalesce.coalescing import CoalescingTransport  # noqa: PLC0415

        stack = CoalescingTransport(stack, config.coalesce, clock, on_coalesced=events.coalesced)
    if config.cache is not None:
        stack = _cached(stack, config, config.cache, clock, events)
    if events.requests_are_heard:
        stack = InstrumentationTransport(stack, events, clock)
    return ClosingTransport(stack)


def _admission(
    config: HTTPInferenceClientConfig,
    clock: Clock,
    events: GatewayEvents,
    metrics: MetricsWatch | None,
) -> Admission | None:
    if not (config.circuit_breaker or config.rate_limit or config.concurrency):
        return None
    admission = Admission(
        clock,
        breaker=config.circuit_breaker,
        rate_limit=config.rate_limit,
        concurrency=config.concurrency,
        metrics=metrics,
        on_breaker=events.breaker_changed,
        on_rate_wait=events.rate_limit_waited,
        on_limit=events.limit_changed,
    )
    if config.circuit_breaker is not None:
        events.breaker_state = admission.breaker_state.value
    if (limit := admission.limit) is not None:
        events.concurrency = lambda: limit.statistics(clock.monotonic())
    return admission


def _cached(
    stack: Transport,
    config: HTTPInferenceClientConfig,
    cache: CacheConfig,
    clock: Clock,
    events: GatewayEvents,
) -> Transport:
    # SQLite is loaded only where it is used.
    from batch_gateway.client.layers.cache.caching import CacheTransport  # noqa: PLC0415

    return CacheTransport(
        stack,
        cache,
        clock,
        namespace=gateway_name(config),
        headers=config.header_pairs(),
        schema=config.json_schema,
        on_look_up=events.cache_looked_up,
    )


def _gateway_transport(
    config: HTTPInferenceClientConfig,
    exchanger: HTTPExchanger,
    clock: Clock,
    events: GatewayEvents,
) -> GatewayTransport:
    names = {name.lower() for name, _ in config.header_pairs()}
    target, proxy = Target.of(config), proxy_of(config)
    return GatewayTransport(
        exchanger,
        seconds(config.timeout),
        clock,
        redactor_of(config),
        limits=StreamLimits(
            idle_timeout=seconds(config.stream_idle_timeout),
            max_event_bytes=config.max_event_bytes,
            max_response_bytes=config.max_response_bytes,
        ),
        counted=events,
        # Which pod a picker chooses, and by which path, is the picker's business.
        url=None if config.uses_endpoint_picker else target.url,
        # What a tunnel brings is the gateway's.
        remark=None if proxy is None or target.tls else partial(proxy_remark, proxy, target),
        stream_upstream=config.stream_upstream,
        accept=() if "accept" in names else (ACCEPT_EVENTS,),
    )


def _metrics_watch(config: HTTPInferenceClientConfig, clock: Clock) -> MetricsWatch | None:
    policy = config.concurrency
    if not isinstance(policy, AdaptiveConcurrency) or policy.gateway_metrics is None:
        return None
    # A part of HTTP of its own, which is loaded only where it is used.
    from batch_gateway.client.layers.concurrency.metrics_watch import MetricsWatch  # noqa: PLC0415

    return MetricsWatch(policy.gateway_metrics, config.tls, clock)


def gateway_name(config: HTTPInferenceClientConfig) -> str:
    """What a gateway is called in events: where it is reached."""
    if config.unix_socket is not None:
        return f"unix:{os.fspath(config.unix_socket)}"
    return config.base_url


class HTTPInferenceClient:
    """Answers inference requests through one OpenAI-compatible gateway over HTTP/1.1.

    Use it as an async context manager, or call `aclose`. It belongs to the event loop that it
    is first used on, and any number of tasks of that loop may call `generate` at once. For code
    without an event loop see `blocking`.

    `config` may be a base URL alone. `observers` are told what happens, see `Observer`, under the
    name `gateway`, which is the base URL unless another is given.

    Raises ConfigError when the API key or a TLS file that the configuration names cannot be
    read, or an extra that it needs is not installed.
    """

    def __init__(
        self,
        config: HTTPInferenceClientConfig | str | None = None,
        *,
        observers: Sequence[Observer] = (),
        gateway: str = "",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        require_kind("config", config, HTTPInferenceClientConfig | str | None)
        require_kind("gateway", gateway, str)
        if isinstance(config, str):
            config = HTTPInferenceClientConfig(config)
        self._config = config or HTTPInferenceClientConfig()
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._events = GatewayEvents(gateway or gateway_name(self._config), observers)
        self._resolved = resolved = self._config.with_resolved_api_key()
        self._exchanger = build_exchanger(resolved)
        self._redact = redactor_of(resolved)
        self._metrics = _metrics_watch(resolved, clock)
        self._stack = build_stack(resolved, self._exchanger, clock, self._events, self._metrics)

    @property
    def config(self) -> HTTPInferenceClientConfig:
        """The configuration that the client was made with."""
        return self._config

    @property
    def events(self) -> GatewayEvents:
        """The client's name and what is true of it just now."""
        return self._events

    @property
    def concurrency_limit(self) -> int | None:
        """How many attempts may be under way just now; None when nothing limits them."""
        return self._events.limit

    @property
    def concurrency_statistics(self) -> ConcurrencyStatistics | None:
        """How many may be under way and why, and for how long each reason kept others waiting.

        None when nothing limits them.
        """
        return None if self._events.concurrency is None else self._events.concurrency()

    @property
    def metrics_statistics(self) -> MetricsStatistics | None:
        """What came of looking at the gateway's own metrics; None where there are none."""
        return None if self._metrics is None else self._metrics.statistics

    @property
    def requests_wanted(self) -> int | None:
        """How many requests to have under way at once, so that nothing of the limit lies idle.

        As many as may be sent, a few that wait for their turn where the limit is being found, and
        as many as wait out a backoff, unless those are more than may be sent: a gateway that
        refuses all is not to be asked with ever more, but for the few that show whether it does.
        So many times more where several are sent as one. None when nothing limits them.
        """
        limit = self._events.limit
        if limit is None:
            return None
        is_found = isinstance(self._config.concurrency, AdaptiveConcurrency)
        ready = _FEW_READY if is_found else 0
        others = min(self._events.backing_off, max(limit, _TO_TELL_APART))
        attempts = limit + ready + others
        coalesce = self._config.coalesce
        joined = 1 if coalesce is None else coalesce.max_requests
        return max(attempts, min(attempts * joined, _MOST_TO_JOIN))

    def when_wanted(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` whenever `requests_wanted` may have changed, until the result is called.

        It is called in the midst of other things, on the client's loop, and must not raise.
        """
        return self._events.when_room_changes(listener)

    async def generate(self, request: RequestLike) -> InferenceResponse:
        """Answer `request`, or the one with these parameters, retrying as the configuration says.

        Raises InferenceError: InvalidRequestError before anything is sent when the request is
        wrong; otherwise the last attempt's error. Cancelling the calling task aborts the HTTP
        request.
        """
        # Before any layer: the future that one waits for could not be woken from another loop.
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = own_loop(self._loop, closed=False)
        prepared, closing = prepare(request, self._clock), self._stack
        task = closing.begin(prepared, loop)
        try:
            return await closing.pass_on(prepared)
        finally:
            closing.end(task, prepared)

    def stream(self, request: RequestLike) -> InferenceStream:
        """The answer to `request` chunk by chunk: `async for chunk in client.stream(request)`.

        `params` need not say `stream`; usage is asked for unless they have `stream_options`. See
        `InferenceStream` for how it ends. Raises InvalidRequestError at once when the request is
        wrong, or its endpoint cannot be streamed.
        """
        return InferenceStream(self._stack, prepare_stream(request, self._clock))

    async def connect(self) -> None:
        """Check that the gateway can be reached, once and without a retry.

        Makes one connection, TLS included, and keeps it for the first request. Raises
        GatewayConnectionError (TLSError among them) or RequestTimeoutError.
        """
        limit = seconds(self._config.connect_timeout)
        try:
            await self._exchanger.connect(deadline=self._clock.monotonic() + limit)
        except InferenceError as error:
            self._redact.in_error(error)
            raise error from error.cause

    async def models(self) -> list[str]:
        """The names that the gateway lists at /v1/models; none where it does not."""
        # A part of HTTP of its own, which is loaded only where it is used.
        from batch_gateway.client.model_list import listed_models  # noqa: PLC0415

        return await listed_models(self._resolved)

    async def metrics_problems(self) -> list[str]:
        """Look at the gateway's own metrics once; a sentence for each page that is of no use.

        Such pages do no harm: they are left out until they can be read.
        """
        return [] if self._metrics is None else await self._metrics.problems()

    def blocking(self) -> BlockingInferenceClient:
        """This client for code without an event loop; use the result as a context manager."""
        return BlockingInferenceClient(self)

    async def aclose(self) -> None:
        """Close every connection; requests and streams under way end.

        Whoever waits for one of them gets a GatewayConnectionError.
        """
        self._events.closed = True
        await self._stack.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"HTTPInferenceClient({self._config.base_url!r})"
