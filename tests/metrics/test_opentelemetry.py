"""Traces and metrics by the GenAI semantic conventions, read back from the SDK."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    DataPointT,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from batch_gateway import (
    CacheConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.metrics.opentelemetry import OpenTelemetry
from batch_gateway.testing import GatewayHandle
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio


class Backend:
    """Where telemetry ends up."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])
        self.observer = OpenTelemetry(tracer_provider=self.tracers, meter_provider=self.meters)

    def span(self) -> ReadableSpan:
        [span] = self.spans()
        return span

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> list[HistogramDataPoint]:
        return [point for point in self.any_points(name) if isinstance(point, HistogramDataPoint)]

    def sum_of(self, name: str) -> float:
        """What a counter came to, its only series."""
        [point] = self.any_points(name)
        assert isinstance(point, NumberDataPoint)
        assert (point.attributes or {})["gen_ai.token.modality"] == "unknown"
        return point.value

    def any_points(self, name: str) -> list[DataPointT]:
        data = self.reader.get_metrics_data()
        if data is None:
            return []
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def backend() -> Iterator[Backend]:
    made = Backend()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


def client_of(gateway: GatewayHandle, backend: Backend, **settings: Any) -> HTTPInferenceClient:
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK, **settings)
    return HTTPInferenceClient(config, observers=[backend.observer])


def chat(model: str = "m", **more: Any) -> InferenceRequest:
    params = {"model": model, "messages": [{"role": "user", "content": "Hello!"}]}
    return InferenceRequest(params=params, **more)


async def test_a_request_is_a_span_with_what_the_conventions_ask_for(
    gateway: GatewayHandle, backend: Backend
) -> None:
    async with client_of(gateway, backend) as client:
        response = await client.generate(chat(request_id="r-1"))
    span = backend.span()
    assert (span.name, span.kind, span.status.status_code) == (
        "chat m",
        SpanKind.CLIENT,
        StatusCode.UNSET,
    )
    answer, usage = response.json(), response.usage
    assert usage is not None
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.response.id": answer["id"],
        "gen_ai.response.model": "m",
        "gen_ai.response.finish_reasons": (answer["choices"][0]["finish_reason"],),
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "server.address": "127.0.0.1",
        "server.port": gateway.port,
        "batch_gateway.request_id": "r-1",
        "batch_gateway.attempts": 1,
    }


async def test_every_attempt_carries_the_traceparent_of_the_request(
    gateway: GatewayHandle, backend: Backend
) -> None:
    async with client_of(gateway, backend) as client:
        with backend.tracers.get_tracer("caller").start_as_current_span("outer") as outer:
            await client.generate(chat("fault-status-503;times=2"))
    inner, _ = backend.exporter.get_finished_spans()
    context = inner.get_span_context()
    assert context is not None
    assert inner.parent is not None
    assert inner.parent.span_id == outer.get_span_context().span_id
    sent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
    seen = [request.header(b"traceparent") for request in gateway.recent_requests()[-3:]]
    assert seen == [sent] * 3
    assert [event.name for event in inner.events] == ["retry", "retry"]
    assert (inner.events[0].attributes or {})["error.type"] == "server_error"


async def test_a_failed_request_is_an_error_by_its_kind(
    gateway: GatewayHandle, backend: Backend
) -> None:
    async with client_of(gateway, backend) as client:
        with pytest.raises(InferenceError):
            await client.generate(chat("fault-status-400"))
    span = backend.span()
    assert span.status.status_code is StatusCode.ERROR
    attributes = span.attributes or {}
    assert attributes["error.type"] == "invalid_request"
    assert attributes["http.response.status_code"] == 400
    [point] = backend.points("gen_ai.client.inference.duration")
    assert (point.attributes or {})["error.type"] == "invalid_request"
    # A failure is counted as one that took nothing, and is no length of an answer.
    assert backend.sum_of("gen_ai.client.inference.usage.input_tokens") == 0
    assert backend.points("gen_ai.client.inference.operation.output_tokens") == []


async def test_duration_and_tokens_are_recorded_in_the_buckets_of_the_conventions(
    gateway: GatewayHandle, backend: Backend
) -> None:
    async with client_of(gateway, backend, stream_upstream=True) as client:
        answers = [await client.generate(chat()) for _ in range(3)]
    [duration] = backend.points("gen_ai.client.inference.duration")
    assert duration.count == 3
    assert tuple(duration.explicit_bounds)[:3] == (0.01, 0.02, 0.04)
    assert "error.type" not in (duration.attributes or {})
    [output] = backend.points("gen_ai.client.inference.operation.output_tokens")
    assert (output.count, output.sum) == (3, 15)
    assert tuple(output.explicit_bounds)[-1] == 67_108_864
    [first] = backend.points("gen_ai.client.inference.time_to_first_chunk")
    assert first.count == 3
    assert (backend.spans()[0].attributes or {})["gen_ai.request.stream"] is True
    used = sum(answer.usage.input_tokens for answer in answers if answer.usage is not None)
    assert backend.sum_of("gen_ai.client.inference.usage.input_tokens") == used
    assert backend.sum_of("gen_ai.client.inference.usage.output_tokens") == 15


async def test_embeddings_and_moderations_have_measures_of_their_own(
    gateway: GatewayHandle, backend: Backend
) -> None:
    async with client_of(gateway, backend) as client:
        embedded = await client.generate(
            InferenceRequest(endpoint="/v1/embeddings", params={"model": "e", "input": ["a b c"]})
        )
        await client.generate(
            InferenceRequest(endpoint="/v1/moderations", params={"model": "e", "input": "a"})
        )
    assert embedded.usage is not None
    [tokens] = backend.points("gen_ai.client.embeddings.operation.input_tokens")
    assert tokens.sum == embedded.usage.input_tokens
    assert [point.count for point in backend.points("gen_ai.client.embeddings.duration")] == [1]
    [other] = backend.points("gen_ai.client.operation.duration")
    assert (other.attributes or {})["gen_ai.operation.name"] == "moderations"
    assert backend.points("gen_ai.client.inference.duration") == []
    embedding = backend.spans()[0]
    assert embedding.name == "embeddings e"
    assert "gen_ai.usage.output_tokens" not in (embedding.attributes or {})


async def test_an_answer_from_the_cache_used_no_tokens(
    gateway: GatewayHandle, backend: Backend, tmp_path: Path
) -> None:
    async with client_of(gateway, backend, cache=CacheConfig(tmp_path / "cache")) as client:
        answer = await client.generate(chat("cached"))
        await client.generate(chat("cached"))
    assert answer.usage is not None
    used = backend.sum_of("gen_ai.client.inference.usage.input_tokens")
    assert used == answer.usage.input_tokens
    [duration] = backend.points("gen_ai.client.inference.duration")
    assert duration.count == 2


async def test_without_a_configured_sdk_requests_go_on_as_ever(gateway: GatewayHandle) -> None:
    config = HTTPInferenceClientConfig(gateway.url)
    observer = OpenTelemetry(tracer_provider=trace.NoOpTracerProvider())
    async with HTTPInferenceClient(config, observers=[observer]) as client:
        assert (await client.generate(chat())).status_code == 200
    assert gateway.recent_requests()[-1].header(b"traceparent") == ""


async def test_answers_that_were_cut_off_are_counted(
    gateway: GatewayHandle, backend: Backend
) -> None:
    params = {"model": "m", "prompt": "Hi", "max_tokens": 1, "ignore_eos": True}
    async with client_of(gateway, backend) as client:
        await client.generate(InferenceRequest(params=params))
    assert (backend.span().attributes or {})["gen_ai.response.finish_reasons"] == ("length",)
    [point] = backend.any_points("batch_gateway.answers.cut_off")
    assert isinstance(point, NumberDataPoint)
    assert point.value == 1
    assert (point.attributes or {})["reason"] == "length"
