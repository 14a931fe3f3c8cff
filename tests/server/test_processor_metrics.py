"""What Prometheus is shown of the processor: the original's names, where they mean the same."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.report.timeline import Totals
from batch_gateway.runs.gateways import gateways_of
from batch_gateway.server.process import serve_from_folder
from batch_gateway.server.processor_metrics import ProcessorMetrics
from batch_gateway.server.server_config import ServerConfig
from batch_gateway.service.processor_config import ProcessorConfig
from batch_gateway.testing import SimulatedGateway, SimulatorConfig
from batch_gateway.wire.usage import Usage
from tests.engine.batch_files import request, text_of
from tests.service.records import NOW, a_batch

pytestmark = pytest.mark.anyio

PATIENCE = 60.0
DOCS = Path(__file__).parents[2] / "docs/metrics.md"


class Shown:
    """The metrics alone, and what they show."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ProcessorMetrics(self.registry, 16, lambda: 3, ["configured"])

    def __call__(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.mark.parametrize(
    ("ended", "began", "result", "reason"),
    [
        ("completed", True, "success", "none"),
        ("failed", False, "failed", "invalid_input"),
        ("failed", True, "failed", "system_error"),
        ("cancelled", True, "success", "none"),
        ("cancelled", False, "success", "none"),
        ("expired", True, "expired", "expired_execution"),
        ("expired", False, "expired", "expired_dequeue"),
    ],
)
def test_the_end_of_a_batch_is_counted_with_how_and_why(
    shown: Shown, ended: str, began: bool, result: str, reason: str
) -> None:
    times = {"in_progress_at": NOW + 5 if began else None, f"{ended}_at": NOW + 65}
    shown.metrics.moved(a_batch(status=ended, total=101, **times))
    assert shown("jobs_processed_total", result=result, reason=reason) == 1
    assert shown("batch_job_e2e_latency_seconds_sum", status=ended) == 65
    processing = shown("job_processing_duration_seconds_sum", size_bucket="1000")
    assert processing == (60 if began else None)
    phase = "in_progress" if began else "queued"
    cancelled = shown("batch_cancellation_total", phase=phase)
    assert cancelled == (1 if ended == "cancelled" else None)


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing", "cancelling"])
def test_what_has_not_ended_is_not_counted(shown: Shown, status: str) -> None:
    shown.metrics.moved(a_batch(status=status))
    names = {family.name for family in shown.registry.collect() if family.samples}
    assert not names & {"jobs_processed", "batch_job_e2e_latency_seconds"}


@pytest.mark.parametrize(
    ("lines", "size"),
    [
        (0, "100"),
        (100, "100"),
        (101, "1000"),
        (10_000, "10000"),
        (30_000, "30000"),
        (30_001, "large"),
    ],
)
def test_sizes_are_told_apart_as_the_original_does(shown: Shown, lines: int, size: str) -> None:
    shown.metrics.moved(
        a_batch(status="completed", total=lines, in_progress_at=NOW, completed_at=NOW)
    )
    assert shown("job_processing_duration_seconds_count", size_bucket=size) == 1


def test_workers_and_requests_are_those_of_just_now(shown: Shown) -> None:
    clients = [GatewayEvents(name) for name in "abc"]
    shown.metrics.clients = clients
    for client, under_way, limit in zip(clients, (4, 2, 1), (10, None, 7), strict=True):
        client.attempts_in_flight, client.limit = under_way, limit
    assert (shown("total_workers"), shown("active_workers")) == (16, 3)
    assert shown("processor_inflight_requests") == 7
    assert shown("processor_max_inflight_concurrency") == 17
    clients[2].closed = True
    assert shown("processor_max_inflight_concurrency") == 10


def test_what_requests_came_to_is_counted_by_model(shown: Shown) -> None:
    for _ in range(2):
        shown.metrics.answered("a", Totals(2, 1, Usage(7, 5)))
    shown.metrics.answered("b", Totals(failed=1))
    assert shown("batch_request_prompt_tokens_total", model="a") == 14
    assert shown("batch_request_generation_tokens_total", model="a") == 10
    assert shown("request_errors_by_model_total", model="a") == 2
    assert shown("request_errors_by_model_total", model="b") == 1


def test_the_names_of_a_strangers_file_are_bounded_and_those_of_the_operator_stay(
    shown: Shown,
) -> None:
    odd = 'quo"te\n\\ and \x00'
    for name in (odd, *(f"made-up-{number}" for number in range(10_000)), "configured"):
        figures = shown.metrics.models.of(name)
        figures.in_flight += 1
        figures.ended(0.3)
        shown.metrics.answered(name, Totals(failed=1))
    page = generate_latest(shown.registry).decode()
    counted = {
        sample.labels["model"]: sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "request_errors_by_model_total"
    }
    assert len(counted) == 102
    assert sum(counted.values()) == 10_002
    assert counted["configured"] == 1
    assert counted['quo"te\ufffd\\ and \ufffd'] == 1
    assert shown("model_inflight_requests", model="other") == 0
    lasted = "model_request_execution_duration_seconds_count"
    assert shown(lasted, model="other") == 9_901


async def test_a_service_shows_what_its_batches_came_to_once(tmp_path: Path) -> None:
    bad = {"model": "fault-status-400", "messages": [{"role": "user", "content": "x"}]}
    lines = text_of([*(request(f"c{n}") for n in range(5)), request("bad", body=bad)])
    async with (
        SimulatedGateway(SimulatorConfig.instant()) as gateway,
        serve_from_folder(
            tmp_path,
            gateways_of(gateway.url),
            ServerConfig(port=0, observability_port=0),
            ProcessorConfig(),
        ) as running,
        openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="any") as sdk,
        httpx2.AsyncClient(base_url=running.observability_url) as observed,
    ):
        file = await sdk.files.create(file=("in.jsonl", lines), purpose="batch")
        empty = await sdk.files.create(file=("in.jsonl", b"{\n"), purpose="batch")
        ids = [await _submit(sdk, one.id) for one in (file, empty)]
        async with asyncio.timeout(PATIENCE):
            batches = [await _ended(sdk, one) for one in ids]
        text = (await observed.get("/metrics")).text
    usage = batches[0].usage
    assert usage is not None
    for line in (
        'jobs_processed_total{reason="none",result="success"} 1.0',
        'jobs_processed_total{reason="invalid_input",result="failed"} 1.0',
        'batch_job_e2e_latency_seconds_count{status="completed"} 1.0',
        'job_processing_duration_seconds_count{size_bucket="100"} 1.0',
        "job_queue_wait_duration_seconds_count 2.0",
        "plan_build_duration_seconds_count 2.0",
        "total_workers 16.0",
        "active_workers 0.0",
        "processor_inflight_requests 0.0",
        'model_inflight_requests{model="m"} 0.0',
        'model_request_execution_duration_seconds_count{model="m"} 5.0',
        'request_errors_by_model_total{model="fault-status-400"} 1.0',
        'request_errors_by_model_total{model="m"} 0.0',
        f'batch_request_prompt_tokens_total{{model="m"}} {float(usage.input_tokens)}',
        f'batch_request_generation_tokens_total{{model="m"}} {float(usage.output_tokens)}',
    ):
        assert line in text.splitlines()
    assert _documented() == {
        name
        for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        if not name.startswith(("batch_gateway_", "process_")) and not name.endswith("_created")
    }


async def _submit(sdk: openai.AsyncOpenAI, file_id: str) -> str:
    batch = await sdk.batches.create(
        input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
    )
    return batch.id


async def _ended(sdk: openai.AsyncOpenAI, batch_id: str) -> Any:
    while (batch := await sdk.batches.retrieve(batch_id)).status not in {"completed", "failed"}:
        await asyncio.sleep(0.02)
    return batch


def _documented() -> set[str]:
    """The series of the table of the service."""
    _, _, rest = DOCS.read_text("utf-8").partition("\n## The service in Prometheus\n")
    table = rest.partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z_0-9]+)` \|", table, re.MULTILINE))
