"""A run from start to end, against gateways in memory."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.engine.progress import RunStats, RunSummary
from batch_gateway.engine.run import RunOptions
from batch_gateway.errors import (
    ConfigError,
    ErrorCategory,
    GatewayConnectionError,
    InvalidRequestError,
    ServerError,
)
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.usage import Usage

from .batch_files import FILES, ids_in, read_lines, request, text_of, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, succeed, when_let_go

pytestmark = pytest.mark.anyio


async def test_every_line_is_sent_once_and_has_its_result(folder: Folder) -> None:
    write_batch(folder.input, 500)
    gateway = FakeGateway()
    stats = RunStats()
    summary = await folder.run(gateway, concurrency=20, stats=stats)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (500, 0, 0)
    assert sorted(ids_in(folder.output)) == sorted(f"id-{n}" for n in range(500))
    assert set(gateway.answered.values()) == {1}
    assert gateway.most_in_flight == 20
    assert summary.figures.usage == Usage(1000, 1500)
    assert (stats.total, stats.succeeded, stats.in_flight) == (500, 500, 0)
    again = await folder.run(gateway)
    assert (again.succeeded, again.figures.finished) == (500, 0)
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
    assert summary.figures.by_category == {
        ErrorCategory.INVALID_REQ: 1,
        ErrorCategory.SERVER_ERROR: 2,
    }
    assert summary.figures.retries == 5
    cause = min(summary.figures.chief_causes(), key=lambda cause: cause.line_number)
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
    assert (summary.succeeded, summary.failed, summary.figures.finished) == (20, 0, 4)
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
