"""Refusals, evictions and broken answers, through a real Envoy and over native gRPC."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.client.client import HTTPInferenceClient
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.interfaces.request import InferenceRequest
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.testing import PickerConfig

from .picked_batch import Ran, World, batch_lines

pytestmark = pytest.mark.peer("envoy")

LIMIT = 30.0
PEOPLE = 6

# What a pod answers when a request asks for it by its model's name.
ANSWERS = [
    *(f"status-{status}" for status in (400, 401, 403, 404, 408, 409, 413, 429, 500, 502, 503)),
    "saturated",
    "ttl-expired",
    "no-endpoints",
    "shutting-down",
    "evicted",
    "shed",
    "admission-refused",
    "parse-error",
    "html-502",
    "empty-500",
    "empty-body",
    "not-json",
    "truncated-json",
]
# What Envoy makes a 502 or a 503 of, and who is connected to the pod itself sees as it is.
BROKEN = [
    "reset-before-headers",
    "reset-during-headers",
    "reset-after-headers",
    "half-body",
    "malformed-head",
    "huge-head",
    "close-without-answer",
]

# Four pods with four seats each, and a queue that overflows.
NARROW: dict[str, Any] = {
    "latency_scale": 1.0,
    "time_per_token": 0.01,
    "prefill_tokens_per_second": 100_000,
    "seats": 4,
    "objectives": {"batch": -1, "interactive": 100},
}
FLOW_CONTROL = PickerConfig(
    flow_control=True, queue_limit=8, queue_depth_threshold=1, eviction="evicted-priority"
)
FAILING = """
max_retries: 0
patience: 0s
timeout: 5s
order: file
"""
PATIENT = """
max_retries: 100
initial_backoff: 20ms
max_backoff: 200ms
inference_objective: batch
"""


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Ran]:
    """A batch in which every other line fails in a way of its own, through Envoy and natively."""
    faults = ANSWERS + BROKEN
    lines = batch_lines(2 * len(faults))
    for line, fault in zip(lines[1::2], faults, strict=True):
        line["body"]["model"] = f"fault-{fault}"
        line["custom_id"] = fault
    world = World(tmp_path_factory.mktemp("failing"), lines, FAILING)
    return world.run("envoy"), world.run("native")


@pytest.mark.parametrize("fault", ANSWERS)
def test_a_refusal_of_a_pod_is_told_in_the_same_words_either_way(
    fault: str, failing: tuple[Ran, Ran]
) -> None:
    envoy, native = failing
    assert native.errors[fault] == envoy.errors[fault]


def test_failures_are_of_the_same_categories_either_way(failing: tuple[Ran, Ran]) -> None:
    envoy, native = failing
    assert set(native.errors) == set(envoy.errors) == {*ANSWERS, *BROKEN}
    assert native.summary["failed_by_category"] == envoy.summary["failed_by_category"]
    assert native.answers() == envoy.answers()


def test_an_empty_pool_stops_a_run_with_the_same_words_either_way(tmp_path: Path) -> None:
    world = World(tmp_path, batch_lines(20), FAILING)
    # A number, because the adaptive limit gives an empty pool time between its refusals.
    envoy, native = (
        world.run(way, "--concurrency", "8", withdrawn=True) for way in ("envoy", "native")
    )
    assert native.exit_code == envoy.exit_code == 3
    assert native.summary["outcome"] == "gateway_unusable"
    assert native.summary["reason"] == envoy.summary["reason"]
    assert {one.dropped_reason for one in native.decisions} == {"rejected-no-endpoints"}


def test_a_batch_gets_through_refusals_and_evictions_either_way(tmp_path: Path) -> None:
    world = World(tmp_path, batch_lines(200), PATIENT)
    ran = {
        way: world.run(way, "--concurrency", "32", alongside=people, picker=FLOW_CONTROL, **NARROW)
        for way in ("envoy", "native")
    }
    for one in ran.values():
        mine = [decision for decision in one.decisions if decision.objective == "batch"]
        reasons = [decision.dropped_reason for decision in mine]
        assert one.exit_code == 0
        assert len(one.results) == 200
        assert set(reasons) == {"", "rejected-saturated", "evicted-priority"}
        assert {decision.outcome for decision in mine} == {"completed", "refused", "evicted"}
        assert one.summary["retries"] == len(mine) - 200
    assert ran["native"].answers() == ran["envoy"].answers()
    envoy, native = (ran[way].completed("batch") for way in ("envoy", "native"))
    # An eviction that crosses the end of the answer is none: the answer counts.
    both = envoy.keys() & native.keys()
    assert len(both) > 150
    assert {key: native[key] for key in both} == {key: envoy[key] for key in both}


@contextlib.contextmanager
def people(url: str) -> Iterator[None]:
    """Some who ask one question after another and go before any batch; they are there before it."""
    enough, there = threading.Event(), threading.Semaphore(0)

    async def ask(client: HTTPInferenceClient, number: int) -> None:
        message = {"role": "user", "content": f"Hello from {number}!"}
        params = {"model": "llama", "max_tokens": 4, "messages": [message]}
        while not enough.is_set():
            await client.generate(InferenceRequest(params=params))
            there.release()

    async def ask_all() -> None:
        scheduling = SchedulingHints(objective="interactive")
        config = HTTPInferenceClientConfig(url, scheduling=scheduling)
        async with HTTPInferenceClient(config) as client:
            await asyncio.gather(*(ask(client, number) for number in range(PEOPLE)))

    thread = threading.Thread(target=asyncio.run, args=(ask_all(),))
    thread.start()
    try:
        for _ in range(PEOPLE):
            assert there.acquire(timeout=LIMIT)
        yield
    finally:
        enough.set()
        thread.join(LIMIT)
