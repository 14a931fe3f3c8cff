"""Runs that end early: gateways given up, stops, deadlines, errors; what is left stays."""

from __future__ import annotations

import asyncio
import os

import pytest

from batch_gateway.engine.progress import RunStats
from batch_gateway.errors import (
    AuthenticationError,
    DeadlineExceededError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
)

from .batch_files import ids_in, read_lines, request, text_of, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, SteppedClock, failing, succeed, when_let_go

pytestmark = pytest.mark.anyio


async def test_a_gateway_that_refuses_everything_is_given_up_and_its_lines_stay(
    folder: Folder,
) -> None:
    write_batch(folder.input, 1_000)
    gateway = FakeGateway(
        failing(lambda: AuthenticationError("HTTP 401: bad key", status_code=401))
    )
    summary = await folder.run(gateway, concurrency=64)
    assert summary.gateway_problem == "HTTP 401: bad key"
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (0, 0, 1_000)
    assert len(gateway.prompts) <= 20
    assert not folder.output.exists()
    assert not folder.errors.exists()
    assert (await folder.run(FakeGateway())).succeeded == 1_000


async def test_one_gateway_given_up_leaves_the_others_running(folder: Folder) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(50) for m in ("dead", "alive"))
    folder.input.write_bytes(text_of(lines))
    dead = FakeGateway(failing(lambda: ServerError("HTTP 500: oh", status_code=500)))
    summary = await folder.run({"dead": dead, "alive": FakeGateway()})
    assert summary.gateway_problem == "dead: HTTP 500: oh"
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (50, 0, 50)


async def test_failures_before_the_first_success_are_recorded_once_it_comes(
    folder: Folder,
) -> None:
    write_batch(folder.input, 100)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) <= 9:
            raise ServerError("HTTP 500: oh", status_code=500)
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer), concurrency=10)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (91, 9, 0)
    assert summary.gateway_problem is None


async def test_quick_failures_beside_slow_successes_do_not_end_the_run(folder: Folder) -> None:
    write_batch(folder.input, 300)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        number = int(prompt.removeprefix("hello id-"))
        if number % 2 and number < 40:
            raise ServerError("HTTP 500: too long", status_code=500)
        return await when_let_go(gateway, prompt)

    gateway, clock = FakeGateway(answer), SteppedClock()
    async with folder.running(gateway, clock=clock, concurrency=50) as task:
        await gateway.until(lambda: gateway.in_flight == 10)
        await clock.advance(5)
        await gateway.until(lambda: len(gateway.prompts) - gateway.in_flight >= 10)
        gateway.gate.set()
        summary = await task
    assert (summary.succeeded, summary.failed) == (280, 20)
    assert summary.gateway_problem is None


async def test_only_a_few_requests_try_out_a_gateway_that_has_not_answered(
    folder: Folder,
) -> None:
    write_batch(folder.input, 100)
    gateway, clock = FakeGateway(when_let_go), SteppedClock()
    async with folder.running(gateway, clock=clock, concurrency=64) as task:
        await gateway.until(lambda: gateway.in_flight == 10)
        await clock.advance(4.9)
        assert gateway.in_flight == 10
        await clock.advance(0.1)
        await gateway.until(lambda: gateway.in_flight == 64)
        gateway.gate.set()
        assert (await task).succeeded == 100


async def test_a_stop_lets_what_is_under_way_end_and_sends_nothing_more(folder: Folder) -> None:
    write_batch(folder.input, 100)
    gateway, stop = FakeGateway(when_let_go), asyncio.Event()
    async with folder.running(gateway, concurrency=8, stop=stop) as task:
        await gateway.until(lambda: gateway.in_flight == 8)
        stop.set()
        await asyncio.sleep(0)
        gateway.gate.set()
        summary = await task
    assert summary.interrupted
    assert (summary.succeeded, summary.left_to_send) == (8, 92)
    assert gateway.cancelled == 0
    assert (await folder.run(gateway)).succeeded == 100
    assert set(gateway.answered.values()) == {1}


async def test_what_does_not_end_within_the_grace_is_cut_off_and_stays(folder: Folder) -> None:
    write_batch(folder.input, 100)
    gateway, stop, clock = FakeGateway(when_let_go), asyncio.Event(), SteppedClock()
    async with folder.running(gateway, concurrency=8, stop=stop, clock=clock) as task:
        await gateway.until(lambda: gateway.in_flight == 8)
        stop.set()
        await clock.advance(9)
        assert gateway.in_flight == 8
        await clock.advance(1)
        summary = await task
    assert gateway.cancelled == 8
    assert summary.interrupted
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (0, 0, 100)


async def test_the_deadline_of_the_run_stops_it_and_its_lines_stay(folder: Folder) -> None:
    write_batch(folder.input, 1_000)
    clock = SteppedClock()

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) <= 30:
            return await succeed(gateway, prompt)
        await gateway.gate.wait()
        raise DeadlineExceededError("the deadline passed")

    gateway = FakeGateway(answer)
    async with folder.running(gateway, clock=clock, deadline="2h", concurrency=10) as task:
        await gateway.until(lambda: gateway.in_flight == 10 and len(gateway.answered) == 30)
        assert gateway.requests[0].deadline == 7200
        await clock.advance(7199)
        gateway.gate.set()
        await gateway.until(lambda: gateway.in_flight == 0)
        await clock.advance(1)
        summary = await task
    assert summary.deadline_passed
    assert not summary.interrupted
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (30, 0, 970)
    assert len(gateway.prompts) == 40


async def test_a_failure_that_there_is_no_time_to_retry_stays_to_be_sent(folder: Folder) -> None:
    write_batch(folder.input, 4)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt == "hello id-0":
            return await succeed(gateway, prompt)
        await gateway.gate.wait()
        if prompt in ("hello id-1", "hello id-3"):
            busy = ServerError("HTTP 503: busy", status_code=503)
            busy.out_of_time = prompt == "hello id-1"
            raise busy
        raise InvalidRequestError("HTTP 400: no", status_code=400)

    gateway, clock = FakeGateway(answer), SteppedClock()
    async with folder.running(gateway, clock=clock, deadline=3600) as task:
        await gateway.until(lambda: gateway.in_flight == 3 and len(gateway.answered) == 1)
        await clock.advance(3595)
        gateway.gate.set()
        summary = await task
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (1, 2, 1)
    assert summary.deadline_passed
    # The other one had spent its retries.
    assert sorted(ids_in(folder.errors)) == ["id-2", "id-3"]


async def test_a_wait_longer_than_the_time_left_ends_the_run_by_its_deadline(
    folder: Folder,
) -> None:
    write_batch(folder.input, 300)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) <= 20:
            return await succeed(gateway, prompt)
        late = RateLimitError("HTTP 429: slow down", status_code=429, retry_after=300)
        late.out_of_time = True
        raise late

    gateway = FakeGateway(answer)
    summary = await folder.run(gateway, deadline=30, concurrency=8)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (20, 0, 280)
    assert summary.deadline_passed
    assert summary.deadline_words == "HTTP 429: slow down"
    assert len(gateway.prompts) < 40


async def test_one_wait_that_is_too_long_does_not_keep_others_from_being_sent(
    folder: Folder,
) -> None:
    write_batch(folder.input, 300)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) % 4:
            return await succeed(gateway, prompt)
        late = ServerError("HTTP 503: full", status_code=503, retry_after=300)
        late.out_of_time = True
        raise late

    summary = await folder.run(FakeGateway(answer), deadline=30, concurrency=1)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (225, 0, 75)
    assert summary.deadline_passed


async def test_the_deadline_cuts_off_what_does_not_end_by_itself(folder: Folder) -> None:
    write_batch(folder.input, 5)
    gateway, clock = FakeGateway(when_let_go), SteppedClock()
    async with folder.running(gateway, clock=clock, deadline=60) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        await clock.advance(60)
        summary = await task
    assert (summary.deadline_passed, summary.left_to_send, gateway.cancelled) == (True, 5, 5)


async def test_an_input_that_changes_under_the_run_stops_it(folder: Folder) -> None:
    write_batch(folder.input, 100)
    gateway = FakeGateway(when_let_go)
    async with folder.running(gateway, concurrency=4) as task:
        await gateway.until(lambda: gateway.in_flight == 4)
        os.utime(folder.input, ns=(1, 1))
        gateway.gate.set()
        summary = await task
    assert "changed while it was running" in (summary.journal_problem or "")
    assert summary.left_to_send > 0


async def test_an_unexpected_exception_fails_its_line_alone(folder: Folder) -> None:
    write_batch(folder.input, 40)
    kinds = [ZeroDivisionError, RecursionError, MemoryError, KeyError]

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        number = int(prompt.removeprefix("hello id-"))
        if number % 10 == 3:
            raise kinds[number // 10]("secret")
        return await succeed(gateway, prompt)

    told: list[tuple[str, str]] = []

    def report(error: Exception, custom_id: str) -> str:
        told.append((type(error).__name__, custom_id))
        return "see crash.txt"

    summary = await folder.run(FakeGateway(answer), report_crash=report)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (36, 4, 0)
    assert sorted(told) == [
        ("KeyError", "id-33"),
        ("MemoryError", "id-23"),
        ("RecursionError", "id-13"),
        ("ZeroDivisionError", "id-3"),
    ]
    lines = read_lines(folder.errors)
    assert {line["error"]["code"] for line in lines} == {"internal_error"}
    [message] = [line["error"]["message"] for line in lines if line["custom_id"] == "id-3"]
    assert message == "a fault of batch-gateway itself (ZeroDivisionError); see crash.txt"


async def test_a_program_that_fails_for_every_line_stops_and_the_lines_stay(
    folder: Folder,
) -> None:
    write_batch(folder.input, 1_000)
    gateway = FakeGateway(failing(ZeroDivisionError))
    summary = await folder.run(gateway, report_crash=lambda error, custom_id: "see crash.txt")
    assert (summary.failed, summary.left_to_send) == (0, 1_000)
    assert "fault of batch-gateway itself" in (summary.gateway_problem or "")


async def test_cancelling_a_run_cuts_off_its_requests_and_keeps_its_results(
    folder: Folder,
) -> None:
    write_batch(folder.input, 50)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        return await (succeed if len(gateway.prompts) <= 20 else when_let_go)(gateway, prompt)

    gateway = FakeGateway(answer)
    async with folder.running(gateway, concurrency=5) as task:
        await gateway.until(lambda: gateway.in_flight == 5 and len(gateway.answered) == 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert gateway.in_flight == 0
    assert len(ids_in(folder.output)) == 20


async def test_nothing_goes_a_step_further_in_a_run_that_is_cut_off_at_that_moment(
    folder: Folder,
) -> None:
    write_batch(folder.input, 20)
    gateway, stats = FakeGateway(when_let_go), RunStats()
    async with folder.running(gateway, stats=stats, concurrency=4) as task:
        await gateway.until(lambda: gateway.in_flight == 4)
        # All four have their answers in the next turn of the loop.
        gateway.gate.set()
        stats.cut_off()
        summary = await task
    assert (len(gateway.prompts), gateway.cancelled, summary.left_to_send) == (4, 4, 20)
