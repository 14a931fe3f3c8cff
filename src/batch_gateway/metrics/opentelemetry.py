"""OpenTelemetry traces and metrics of clients, by the semantic conventions for generative AI.

Names are those of the OpenTelemetry GenAI semantic conventions 0.1, the first that stand alone
(2026, status: development): the documents "client inference", "client embeddings" and "inference
token metrics". Needs only the API; where nothing is configured, it does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from batch_gateway.client.interfaces.instrumentation import (
    Observer,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.extras import command_for
from batch_gateway.metrics.series import BoundedLabels
from batch_gateway.version import __version__
from batch_gateway.wire.usage import Usage

try:
    from opentelemetry import metrics, propagate, trace
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"OpenTelemetry needs opentelemetry-api: install it with `{command_for('otel')}`",
        name=error.name,
    ) from error

__all__ = ["OpenTelemetry"]

_NAME = "batch_gateway"
_OPERATIONS = {
    "/v1/chat/completions": "chat",
    "/v1/responses": "chat",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "embeddings",
}
_EMBEDDINGS = "embeddings"
_INFERENCES = frozenset({"chat", "text_completion"})
# Whatever is neither, moderations for example, is some other operation of a client.
_DURATIONS = {
    **dict.fromkeys(sorted(_INFERENCES), "gen_ai.client.inference.duration"),
    _EMBEDDINGS: "gen_ai.client.embeddings.duration",
}
_DESCRIPTIONS = {
    "gen_ai.client.inference.duration": "GenAI client inference operation duration.",
    "gen_ai.client.embeddings.duration": "GenAI client embeddings operation duration.",
    "gen_ai.client.operation.duration": "GenAI operation duration.",
    "gen_ai.client.inference.time_to_first_chunk": "Time to receive the first chunk.",
    "gen_ai.client.inference.operation.input_tokens": "Input tokens of each inference operation.",
    "gen_ai.client.inference.operation.output_tokens": "Output tokens of each of them.",
    "gen_ai.client.embeddings.operation.input_tokens": "Input tokens of each embeddings operation.",
    "gen_ai.client.inference.usage.input_tokens": "Input tokens used, cached ones included.",
    "gen_ai.client.inference.usage.output_tokens": "Output tokens used, reasoning included.",
    "gen_ai.client.inference.usage.cache_read.input_tokens": "Input tokens read from a cache.",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "Output tokens used for reasoning.",
}
_SECONDS = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
_TOKENS = tuple(4**power for power in range(14))

_NO_USAGE = Usage()

Attributes = dict[str, str | int]


class OpenTelemetry(Observer):
    """An observer that makes a span of each request and records its duration and tokens.

    The span is a child of the one that is current where `generate` is called, and goes out with
    every attempt as `traceparent` (or as the configured propagators say). Retries are its events.
    Neither prompts nor answers nor a gateway's words are recorded.

    Args:
        tracer_provider, meter_provider: the global ones unless given.
        provider_name: `gen_ai.provider.name`; every gateway speaks OpenAI's format.
        max_models: metrics tell so many models apart; the others are "other".
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        provider_name: str = "openai",
        max_models: int = 100,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, __version__, tracer_provider)
        meter = metrics.get_meter(_NAME, __version__, meter_provider)
        self._durations = {
            operation: _histogram(meter, name, "s") for operation, name in _DURATIONS.items()
        }
        self._other_duration = _histogram(meter, "gen_ai.client.operation.duration", "s")
        self._first_chunk = _histogram(meter, "gen_ai.client.inference.time_to_first_chunk", "s")
        self._embedded = _histogram(
            meter, "gen_ai.client.embeddings.operation.input_tokens", "{token}"
        )
        self._each_input = _histogram(
            meter, "gen_ai.client.inference.operation.input_tokens", "{token}"
        )
        self._each_output = _histogram(
            meter, "gen_ai.client.inference.operation.output_tokens", "{token}"
        )
        self._input = _counter(meter, "input_tokens")
        self._output = _counter(meter, "output_tokens")
        self._cached = _counter(meter, "cache_read.input_tokens")
        self._reasoning = _counter(meter, "reasoning.output_tokens")
        self._cut_off = meter.create_counter(
            "batch_gateway.answers.cut_off",
            unit="{answer}",
            description="Answers that are not whole: length, content_filter, or incomplete.",
        )
        self._provider_name = provider_name
        self._models = BoundedLabels(max_models)
        # By the identity of the event that began them: request ids may be given twice.
        self._spans: dict[int, trace.Span] = {}
        self._by_request: dict[str, trace.Span] = {}

    def request_started(self, event: RequestStarted) -> None:
        attributes = self._attributes(event)
        span = self._tracer.start_span(
            f"{attributes['gen_ai.operation.name']} {event.model}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
        )
        span.set_attribute("batch_gateway.request_id", event.request_id)
        self._spans[id(event)] = self._by_request[event.request_id] = span

    def headers(self, event: RequestStarted) -> Sequence[tuple[str, str]]:
        span = self._spans.get(id(event))
        if span is None:
            return ()
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        return list(carrier.items())

    def retry_scheduled(self, event: RetryScheduled) -> None:
        span = self._by_request.get(event.request_id)
        if span is not None:
            span.add_event(
                "retry",
                {
                    "error.type": event.reason,
                    "batch_gateway.attempt": event.attempt,
                    "batch_gateway.delay": event.delay,
                },
            )

    def request_finished(self, event: RequestFinished) -> None:
        started = event.started
        span = self._spans.pop(id(started), None)
        if self._by_request.get(started.request_id) is span:
            self._by_request.pop(started.request_id, None)
        if span is not None:
            _finish(span, event)
        self._measure(event)

    def _attributes(self, event: RequestStarted) -> Attributes:
        operation = _OPERATIONS.get(event.endpoint) or event.endpoint.rpartition("/")[2]
        return {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": self._provider_name,
            "gen_ai.request.model": event.model,
            **_server(event.gateway),
        }

    def _measure(self, event: RequestFinished) -> None:
        attributes = self._attributes(event.started)
        attributes["gen_ai.request.model"] = self._models.of(event.started.model)
        operation = str(attributes["gen_ai.operation.name"])
        # Whatever this client's own cache answered used no tokens.
        if operation in _INFERENCES and (event.attempts or event.response is None):
            self._count_tokens(event.usage or _NO_USAGE, attributes)
        if event.usage is not None:
            self._sort_tokens(operation, event.usage, attributes)
        if event.time_to_first_token is not None:
            self._first_chunk.record(event.time_to_first_token, attributes)
        if event.response is not None and event.response.cut_off is not None:
            self._cut_off.add(1, {**attributes, "reason": event.response.cut_off})
        if event.response is None:
            attributes["error.type"] = event.code or event.outcome
        self._durations.get(operation, self._other_duration).record(event.duration, attributes)

    def _count_tokens(self, usage: Usage, attributes: Attributes) -> None:
        """What was spent, by failed requests nothing."""
        # Gateways seldom say how much of it was text, and how much images or sound.
        spent = {**attributes, "gen_ai.token.modality": "unknown"}
        self._input.add(usage.input_tokens, spent)
        self._output.add(usage.output_tokens, spent)
        if usage.cached_tokens:
            self._cached.add(usage.cached_tokens, spent)
        if usage.reasoning_tokens:
            self._reasoning.add(usage.reasoning_tokens, spent)

    def _sort_tokens(self, operation: str, usage: Usage, attributes: Attributes) -> None:
        """How many each request took, of those that succeeded."""
        if operation in _INFERENCES:
            self._each_input.record(usage.input_tokens, attributes)
            self._each_output.record(usage.output_tokens, attributes)
        elif operation == _EMBEDDINGS:
            self._embedded.record(usage.input_tokens, attributes)


def _histogram(meter: metrics.Meter, name: str, unit: str) -> metrics.Histogram:
    return meter.create_histogram(
        name,
        unit=unit,
        description=_DESCRIPTIONS[name],
        explicit_bucket_boundaries_advisory=_SECONDS if unit == "s" else _TOKENS,
    )


def _counter(meter: metrics.Meter, tokens: str) -> metrics.Counter:
    name = f"gen_ai.client.inference.usage.{tokens}"
    return meter.create_counter(name, unit="{token}", description=_DESCRIPTIONS[name])


def _finish(span: trace.Span, event: RequestFinished) -> None:
    if span.is_recording():
        span.set_attribute("batch_gateway.attempts", event.attempts)
        if event.response is not None:
            span.set_attributes(_of_answer(event))
        else:
            if event.error is not None and event.error.status_code is not None:
                span.set_attribute("http.response.status_code", event.error.status_code)
            span.set_attribute("error.type", event.code or event.outcome)
            span.set_status(trace.StatusCode.ERROR, event.outcome)
    span.end()


_DEFAULT_PORTS = {"https": 443, "grpc": 9002, "grpcs": 9002}


def _server(gateway: str) -> Attributes:
    """`server.address` and `server.port` from a gateway's name."""
    if gateway.startswith("unix:"):
        return {"server.address": gateway.removeprefix("unix:")}
    try:
        url = urlsplit(gateway.partition(" ")[0])
        port = url.port
    except ValueError:
        return {}
    if not url.hostname:
        return {}
    return {
        "server.address": url.hostname,
        "server.port": port or _DEFAULT_PORTS.get(url.scheme, 80),
    }


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Answer).decode


def _of_answer(event: RequestFinished) -> Mapping[str, str | int | float | list[str]]:
    """What an answer says of itself, its content aside."""
    found: dict[str, str | int | float | list[str]] = {}
    is_embedding = _OPERATIONS.get(event.started.endpoint) == _EMBEDDINGS
    usage = event.usage
    if usage is not None:
        found["gen_ai.usage.input_tokens"] = usage.input_tokens
        if not is_embedding:
            found["gen_ai.usage.output_tokens"] = usage.output_tokens
        if usage.cached_tokens:
            found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
        if usage.reasoning_tokens:
            found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    if event.time_to_first_token is not None:
        found["gen_ai.request.stream"] = True
        found["gen_ai.response.time_to_first_chunk"] = event.time_to_first_token
    try:
        answer = _decode(b"" if event.response is None else event.response.body)
    except (msgspec.DecodeError, RecursionError):
        return found
    if answer.id is not None:
        found["gen_ai.response.id"] = answer.id
    if answer.model is not None:
        found["gen_ai.response.model"] = answer.model
    reasons = [choice.finish_reason for choice in answer.choices if choice.finish_reason]
    if event.response is not None and event.response.cut_off is not None:
        # Those of /v1/responses, which has no choices, are said in the same place.
        reasons = reasons or [event.response.cut_off]
    if reasons:
        found["gen_ai.response.finish_reasons"] = reasons
    return found
