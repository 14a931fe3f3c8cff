"""The model of batching behind the sockets: queues, refusals, priorities, streams in step."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from batch_gateway.testing import SimulatedGateway, SimulatorConfig

from .asking import CHAT, CHAT_PATH

REASON = b"x-llm-d-request-dropped-reason: "
# One token takes a hundredth of a second, so that an answer of 5 tokens takes 50 ms.
QUICK = SimulatorConfig(
    time_per_token=0.01, load_growth=0, output_tokens=5, output_distribution="fixed"
)
LONG: dict[str, Any] = CHAT | {"max_tokens": 200_000, "ignore_eos": True}


def run_with(config: SimulatorConfig, main: Callable[[SimulatedGateway], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20), SimulatedGateway(config) as gateway:
            await main(gateway)

    asyncio.run(bounded())


async def send(
    gateway: SimulatedGateway, body: dict[str, Any] = CHAT, extra: str = ""
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{extra}"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    return reader, writer


async def answer(gateway: SimulatedGateway, body: dict[str, Any] = CHAT, extra: str = "") -> bytes:
    reader, writer = await send(gateway, body, extra)
    try:
        return await reader.read()
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_all_that_was_asked_is_answered_through_a_few_seats() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        answers = await asyncio.gather(*(answer(gateway) for _ in range(12)))
        assert all(text.startswith(b"HTTP/1.1 200") for text in answers)
        assert gateway.journal.peak_in_flight > 3
        assert (gateway.running, gateway.waiting) == (0, 0)

    run_with(QUICK.with_changes(seats=3, time_per_token=0.001), main)


@pytest.mark.parametrize(
    ("style", "sign"),
    [
        ("llm-d", REASON + b"rejected-saturated"),
        ("openai", b"retry-after: 1"),
    ],
)
def test_a_full_queue_refuses_in_the_configured_style(style: str, sign: bytes) -> None:
    async def main(gateway: SimulatedGateway) -> None:
        _, first = await send(gateway, LONG)
        await until(lambda: gateway.running == 1)
        _, second = await send(gateway, LONG)
        await until(lambda: gateway.waiting == 1)
        refused = await answer(gateway)
        assert refused.startswith(b"HTTP/1.1 429")
        assert sign in refused
        first.close()
        second.close()

    run_with(QUICK.with_changes(seats=1, queue_limit=1, refusal_style=style), main)


def test_a_request_that_queues_too_long_is_refused() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        _, first = await send(gateway, LONG)
        await until(lambda: gateway.running == 1)
        refused = await answer(gateway)
        assert refused.startswith(b"HTTP/1.1 429")
        assert REASON + b"rejected-ttl-expired" in refused
        first.close()

    run_with(QUICK.with_changes(seats=1, queue_ttl="20ms"), main)


@pytest.mark.parametrize("header", ["x-llm-d", "x-gateway"])
def test_an_objective_of_higher_priority_takes_the_place_of_a_sheddable_one(header: str) -> None:
    async def main(gateway: SimulatedGateway) -> None:
        _, first = await send(gateway, LONG)
        await until(lambda: gateway.running == 1)
        sheddable = asyncio.create_task(
            answer(gateway, LONG, f"{header}-inference-objective: batch\r\n")
        )
        await until(lambda: gateway.waiting == 1)
        _, second = await send(gateway, LONG, f"{header}-inference-objective: chat\r\n")
        refused = await sheddable
        assert refused.startswith(b"HTTP/1.1 429")
        assert gateway.waiting == 1
        first.close()
        second.close()

    objectives = {"batch": -1, "chat": 100}
    run_with(QUICK.with_changes(seats=1, queue_limit=1, objectives=objectives), main)


def test_what_the_kv_cache_cannot_hold_is_a_bad_request() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        refused = await answer(gateway, LONG)
        assert refused.startswith(b"HTTP/1.1 400")
        assert b"context_length_exceeded" in refused

    run_with(QUICK.with_changes(kv_cache_tokens=1000), main)


def test_a_stream_comes_token_by_token() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        reader, writer = await send(gateway, CHAT | {"stream": True})
        await reader.readuntil(b"\r\n\r\n")
        sizes = []
        while size := int(await reader.readline(), 16):
            piece = await reader.readexactly(size + 2)
            sizes.append(piece.count(b'"content":"'))
        writer.close()
        # The head and the first token come together, and the end with the last one or after.
        assert len(sizes) >= 4
        assert sum(sizes) == 1 + 5

    # Tokens that are due by the time a busy machine looks come together.
    run_with(QUICK.with_changes(time_per_token=0.1), main)


def test_a_client_that_leaves_before_its_fault_strikes_takes_no_seat() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        _, first = await send(gateway, LONG, "X-Simulate-Fault: chunked;after=0.03\r\n")
        await until(lambda: gateway.journal.in_flight == 1)
        first.close()
        await until(lambda: gateway.journal.in_flight == 0)
        # By the time that this one is answered, the other would have begun.
        later = await answer(gateway, CHAT, "X-Simulate-Fault: chunked;after=0.06\r\n")
        assert later.startswith(b"HTTP/1.1 200")
        assert gateway.running == 0

    run_with(QUICK, main)


def test_a_cached_prefix_is_not_read_again() -> None:
    system = {"role": "system", "content": "You are helpful. " * 500}
    body: dict[str, Any] = CHAT | {"messages": [system, *CHAT["messages"]]}

    async def main(gateway: SimulatedGateway) -> None:
        _, first = await send(gateway, body)
        await until(lambda: gateway.running == 1)
        first.close()
        # Read whole, this prompt would take longer than the test may.
        assert (await answer(gateway, body)).startswith(b"HTTP/1.1 200")

    slow = QUICK.with_changes(prefill_tokens_per_second=50, prefix_cache_tokens=10_000)
    run_with(slow, main)


def test_a_change_of_capacity_is_felt_by_what_is_queued() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        writers = [(await send(gateway, LONG))[1] for _ in range(4)]
        await until(lambda: (gateway.running, gateway.waiting) == (1, 3))
        gateway.configure(seats=3)
        assert (gateway.running, gateway.waiting) == (3, 1)
        for writer in writers:
            writer.close()
        await until(lambda: gateway.running == 0)

    run_with(QUICK.with_changes(seats=1), main)


def test_metrics_show_what_runs_and_what_waits() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        writers = [(await send(gateway, LONG))[1] for _ in range(3)]
        await until(lambda: gateway.waiting == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        page = (await reader.read()).decode()
        assert "\nvllm:num_requests_running 2\n" in page
        assert "\nvllm:num_requests_waiting 1\n" in page
        assert "\nvllm:kv_cache_usage_perc 1.0\n" in page
        for open_writer in (*writers, writer):
            open_writer.close()

    run_with(QUICK.with_changes(seats=2), main)


def test_going_instant_lets_new_requests_pass_while_old_ones_run() -> None:
    async def main(gateway: SimulatedGateway) -> None:
        _, writer = await send(gateway, LONG)
        await until(lambda: gateway.running == 1)
        gateway.configure(latency_scale=0)
        assert (await answer(gateway, LONG | {"max_tokens": 3})).startswith(b"HTTP/1.1 200")
        assert gateway.running == 1
        writer.close()
        await until(lambda: gateway.running == 0)

    run_with(QUICK.with_changes(seats=1), main)
