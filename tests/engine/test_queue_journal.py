"""Results in memory reach whoever takes them: each one once, and not too many at a time."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.engine.plan import Plan, make_plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.queue_journal import QueueJournal, Recorded
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.engine.source import BytesSource
from batch_gateway.errors import InvalidRequestError

from .batch_files import request, text_of
from .fake_gateways import FakeGateway, failing, succeed

pytestmark = pytest.mark.anyio


def planned(lines: int) -> Plan:
    return make_plan(BytesSource(text_of(request(f"id-{number}") for number in range(lines))))


async def run_and_take(
    gateway: FakeGateway, journal: QueueJournal, plan: Plan, concurrency: int = 64
) -> tuple[list[Recorded], RunSummary]:
    run = asyncio.create_task(
        run_plan(plan, journal, lambda _: gateway, options=RunOptions(concurrency=concurrency))
    )
    async with asyncio.timeout(20):
        return [result async for result in journal], await run


@settings(deadline=None, max_examples=30)
@given(lines=st.integers(1, 60), concurrency=st.integers(1, 20), most=st.integers(0, 9))
def test_every_result_is_taken_once(lines: int, concurrency: int, most: int) -> None:
    async def check() -> None:
        with planned(lines) as plan:
            journal = QueueJournal(plan.requests, most_waiting=most)
            taken, summary = await run_and_take(FakeGateway(), journal, plan, concurrency)
        assert sorted(result.index for result in taken) == list(range(lines))
        for result in taken:
            assert json.loads(result.line)["custom_id"] == f"id-{result.index}"
        assert summary.left_to_send == 0

    asyncio.run(check())


async def test_failures_are_told_from_successes() -> None:
    async def refuse_one(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt == "hello id-1":
            raise InvalidRequestError("no", status_code=400)
        return await succeed(gateway, prompt)

    with planned(3) as plan:
        journal = QueueJournal(plan.requests)
        taken, summary = await run_and_take(FakeGateway(refuse_one), journal, plan)
    assert {result.index: result.ok for result in taken} == {0: True, 1: False, 2: True}
    assert (journal.succeeded, journal.failed) == (2, 1)
    assert summary.figures.failed == 1


async def test_a_run_goes_no_further_than_its_results_are_taken() -> None:
    gateway = FakeGateway()
    with planned(100) as plan:
        journal = QueueJournal(plan.requests, most_waiting=5)
        options = RunOptions(concurrency=3)
        stop = asyncio.Event()
        run = asyncio.create_task(
            run_plan(plan, journal, lambda _: gateway, options=options, stop=stop)
        )
        await gateway.until(lambda: len(gateway.prompts) == 8)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(gateway.prompts) == 8
        async for result in journal:
            assert result.ok
            stop.set()
        summary = await run
    assert summary.interrupted
    assert summary.left_to_send == plan.total - journal.succeeded


async def test_whoever_takes_results_sees_the_end_of_a_run_that_came_to_nothing() -> None:
    with planned(2) as plan:
        journal = QueueJournal(plan.requests)
        gateway = FakeGateway(failing(lambda: InvalidRequestError("no", status_code=400)))
        taken, _ = await run_and_take(gateway, journal, plan)
    assert [result.ok for result in taken] == [False, False]
