"""A run from start to end, against gateways in memory."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.batch.journal import Journal
from batch_gateway.batch.plan import make_plan
from batch_gateway.batch.progress import RunStats, RunSummary
from batch_gateway.batch.run import RunOptions, run_batch
from batch_gateway.client.request import InferenceResponse
from batch_gateway.errors import (
    AuthenticationError,
    ConfigError,
    DeadlineExceededError,
    ErrorCategory,
    GatewayConnectionError,
    InvalidRequestError,
    RateLimitError,
    ServerError,
)
from batch_gateway.wire.headers import Headers

from .batch_files import FILES, ids_in, read_lines, request, text_of, write_batch
from .fake_gateways import FakeGateway, SteppedClock, failing, succeed, when_let_go

pytestmark = pytest.mark.anyio


class Folder:
    """The files of one batch."""

    def __init__(self, path: Path) -> None:
        self.input = path / "requests.jsonl"
        self.output = path / "results.jsonl"
        self.errors = path / "results.errors.jsonl"

    async def run(
        self,
        gateway: FakeGateway | Mapping[str, FakeGateway | None],
        *,
        stop: asyncio.Event | None = None,
        stats: RunStats | None = None,
        clock: SteppedClock | None = None,
        retry_failed: bool = False,
        **options: object,
    ) -> RunSummary:
        def client_for(model: str) -> FakeGateway | None:
            return gateway if isinstance(gateway, FakeGateway) else gateway[model]

        with make_plan(self.input) as plan:
            journal = Journal.open(plan, self.output, self.errors, retry_failed=retry_failed)
            async with journal, asyncio.timeout(20):
                return await run_batch(
                    plan,
                    journal,
                    client_for,
                    options=RunOptions(**options),  # type: ignore[arg-type]
                    stats=stats,
                    stop=stop,
                    clock=clock or SteppedClock(),
                )

    @asynccontextmanager
    async def running(
        self, gateway: FakeGateway | Mapping[str, FakeGateway | None], **settings: object
    ) -> AsyncIterator[asyncio.Task[RunSummary]]:
        task = asyncio.create_task(self.run(gateway, **settings))  # type: ignore[arg-type]
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


async def test_every_line_is_sent_once_and_has_its_result(folder: Folder) -> None:
    write_batch(folder.input, 500)
    gateway = FakeGateway()
    stats = RunStats()
    summary = await folder.run(gateway, concurrency=20, stats=stats)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (500, 0, 0)
    assert sorted(ids_in(folder.output)) == sorted(f"id-{n}" for n in range(500))
    assert set(gateway.answered.values()) == {1}
    assert gateway.most_in_flight == 20
    assert (summary.input_tokens, summary.output_tokens) == (1000, 1500)
    assert (stats.total, stats.succeeded, stats.in_flight) == (500, 500, 0)
    again = await folder.run(gateway)
    assert (again.succeeded, again.finished_now) == (500, 0)
    assert len(gateway.prompts) == 500


async def test_a_result_line_has_the_shape_of_the_batch_api(folder: Folder) -> None:
    write_batch(folder.input, 1)

    async def answer(_gateway: FakeGateway, _prompt: str) -> InferenceResponse:
        body = b'{\n  "choices": [],\n  "cost": 1.50\n}\n'
        headers = Headers.of({"x-request-id": "gw-7"})
        return InferenceResponse(request_id="r", status_code=201, headers=headers, body=body)

    gateway = FakeGateway(answer)
    await folder.run(gateway)
    (line,) = read_lines(folder.output)
    (sent,) = gateway.requests
    assert line == {
        "id": sent.request_id,
        "custom_id": "id-0",
        "response": {
            "status_code": 201,
            "request_id": "gw-7",
            "body": {"choices": [], "cost": 1.5},
        },
        "error": None,
    }
    assert sent.endpoint == "/v1/chat/completions"
    assert sent.model == "m"
    assert b"1.50" in folder.output.read_bytes()
    body = json.loads(folder.input.read_bytes())["body"]
    assert json.loads(bytes(sent.params)) == body  # type: ignore[arg-type]


async def test_failures_are_recorded_as_the_gateway_put_them(folder: Folder) -> None:
    write_batch(folder.input, 4)
    errors = {
        "hello id-1": InvalidRequestError(
            "HTTP 400: no", status_code=400, body=b'{"error": {"message": "no"}}', attempts=1
        ),
        "hello id-2": ServerError("HTTP 503: busy", status_code=503, body=b"busy", attempts=4),
        "hello id-3": GatewayConnectionError("cut short", attempts=3),
    }

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt in errors:
            raise errors[prompt]
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer))
    lines = {line["custom_id"]: line for line in read_lines(folder.errors)}
    assert lines["id-1"]["response"]["status_code"] == 400
    assert lines["id-1"]["response"]["body"] == {"error": {"message": "no"}}
    assert lines["id-1"]["error"] is None
    wrapped = lines["id-2"]["response"]["body"]["error"]
    assert (wrapped["message"], wrapped["code"]) == ("HTTP 503: busy", "server_error")
    assert lines["id-3"]["response"] is None
    assert lines["id-3"]["error"] == {"code": "connection_error", "message": "cut short"}
    assert summary.by_category == {ErrorCategory.INVALID_REQ: 1, ErrorCategory.SERVER_ERROR: 2}
    assert summary.retries == 5
    cause = min(summary.causes, key=lambda cause: cause.line_number)
    assert (cause.line_number, cause.custom_id, cause.status_code) == (2, "id-1", 400)


async def test_a_slow_line_holds_back_nothing(folder: Folder) -> None:
    write_batch(folder.input, 200)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt == "hello id-0":
            await gateway.gate.wait()
        return await succeed(gateway, prompt)

    gateway = FakeGateway(answer)
    async with folder.running(gateway, concurrency=2) as task:
        await gateway.until(lambda: len(gateway.answered) == 199)
        gateway.gate.set()
        assert (await task).succeeded == 200


async def test_a_slow_gateway_holds_up_no_other(folder: Folder) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(50) for m in ("slow", "fast"))
    folder.input.write_bytes(text_of(lines))
    slow, fast = FakeGateway(when_let_go), FakeGateway()
    gateways = {"slow": slow, "fast": fast}
    async with folder.running(gateways, concurrency=3) as task:
        await fast.until(lambda: len(fast.answered) == 50)
        assert len(slow.prompts) == 3
        slow.gate.set()
        assert (await task).succeeded == 100
    assert (slow.most_in_flight, fast.most_in_flight) == (3, 3)


async def test_an_unknown_model_is_an_error_of_its_lines_alone(folder: Folder) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(3) for m in ("known", "unknown"))
    folder.input.write_bytes(text_of(lines))
    summary = await folder.run({"known": FakeGateway(), "unknown": None})
    assert (summary.succeeded, summary.failed) == (3, 3)
    assert summary.gateway_problem is None
    errors = [line["error"] for line in read_lines(folder.errors)]
    assert {error["code"] for error in errors} == {"model_not_found"}
    assert "'unknown'" in errors[0]["message"]


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
            raise RateLimitError("HTTP 429: slow down", status_code=429)
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
    write_batch(folder.input, 3)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt == "hello id-0":
            return await succeed(gateway, prompt)
        await gateway.gate.wait()
        if prompt == "hello id-1":
            raise ServerError("HTTP 503: busy", status_code=503)
        raise InvalidRequestError("HTTP 400: no", status_code=400)

    gateway, clock = FakeGateway(answer), SteppedClock()
    async with folder.running(gateway, clock=clock, deadline=3600) as task:
        await gateway.until(lambda: gateway.in_flight == 2 and len(gateway.answered) == 1)
        await clock.advance(3595)
        gateway.gate.set()
        summary = await task
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (1, 1, 1)
    assert ids_in(folder.errors) == ["id-2"]


async def test_the_deadline_cuts_off_what_does_not_end_by_itself(folder: Folder) -> None:
    write_batch(folder.input, 5)
    gateway, clock = FakeGateway(when_let_go), SteppedClock()
    async with folder.running(gateway, clock=clock, deadline=60) as task:
        await gateway.until(lambda: gateway.in_flight == 5)
        await clock.advance(60)
        summary = await task
    assert (summary.deadline_passed, summary.left_to_send, gateway.cancelled) == (True, 5, 5)


async def test_failed_lines_are_sent_again_when_asked(folder: Folder) -> None:
    write_batch(folder.input, 20)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt.endswith(("3", "7")):
            raise InvalidRequestError("HTTP 400: no", status_code=400)
        return await succeed(gateway, prompt)

    assert (await folder.run(FakeGateway(answer))).failed == 4
    gateway = FakeGateway()
    summary = await folder.run(gateway, retry_failed=True, ordered=True)
    assert sorted(gateway.prompts) == sorted(f"hello id-{n}" for n in (3, 7, 13, 17))
    assert (summary.succeeded, summary.failed, summary.finished_now) == (20, 0, 4)
    assert ids_in(folder.output) == [f"id-{n}" for n in range(20)]
    assert not folder.errors.exists()


async def test_a_single_line_that_keeps_failing_can_be_finished_after_a_resume(
    folder: Folder,
) -> None:
    write_batch(folder.input, 5)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if prompt == "hello id-4":
            raise ServerError("HTTP 500: crash", status_code=500)
        return await succeed(gateway, prompt)

    await folder.run(FakeGateway(answer))
    folder.errors.unlink()
    summary = await folder.run(FakeGateway(answer))
    assert (summary.failed, summary.gateway_problem) == (1, None)


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


async def test_an_error_of_a_client_that_breaks_its_contract_is_raised(folder: Folder) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(20) for m in ("bug", "fine"))
    folder.input.write_bytes(text_of(lines))
    fine = FakeGateway(when_let_go)
    with pytest.raises(ZeroDivisionError):
        await folder.run({"bug": FakeGateway(failing(ZeroDivisionError)), "fine": fine})
    assert fine.in_flight == 0


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


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="concurrency"):
        RunOptions(concurrency=0)
    with pytest.raises(ConfigError, match="deadline"):
        RunOptions(deadline="soon")


@settings(FILES, max_examples=40)
@given(seed=st.integers(0, 2**32), lines=st.integers(1, 40), concurrency=st.integers(1, 12))
def test_under_any_outcomes_and_interruptions_every_line_ends_exactly_once(
    tmp_path: Path, seed: int, lines: int, concurrency: int
) -> None:
    chance = random.Random(seed)
    folder = Folder(tmp_path / str(seed))
    folder.input.parent.mkdir(exist_ok=True)
    for leftover in (folder.output, folder.errors):
        leftover.unlink(missing_ok=True)
    write_batch(folder.input, lines)
    recorded: set[str] = set()

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        assert prompt.removeprefix("hello ") not in recorded
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if chance.random() < 0.2:
            raise InvalidRequestError("HTTP 400: no", status_code=400)
        if chance.random() < 0.2:
            raise ServerError("HTTP 500: oh", status_code=500)
        return await succeed(gateway, prompt)

    async def one_run() -> RunSummary:
        stop = asyncio.Event()
        asyncio.get_running_loop().call_later(chance.random() / 500, stop.set)
        return await folder.run(FakeGateway(answer), stop=stop, concurrency=concurrency, grace=0)

    for _ in range(200):
        summary = asyncio.run(one_run())
        results = ids_in(folder.output) + ids_in(folder.errors)
        assert len(results) == len(set(results)) == summary.succeeded + summary.failed
        assert recorded <= set(results)
        recorded.update(results)
        if not summary.left_to_send:
            break
    assert recorded == {f"id-{number}" for number in range(lines)}
