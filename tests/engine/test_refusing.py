"""Gateways that begin to refuse in the middle of a run: no line pays for it, none is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.engine.plan import Order
from batch_gateway.errors import (
    ConfigError,
    InferenceError,
    InvalidRequestError,
    ServerError,
    error_class_for_status,
)

from .batch_files import FILES, ids_in, request, text_of, write_batch
from .batch_folder import Folder
from .fake_gateways import FakeGateway, failing, succeed

pytestmark = pytest.mark.anyio


def refusal(status: int, message: str = "no", **more: Any) -> Callable[[], InferenceError]:
    def make() -> InferenceError:
        return error_class_for_status(status)(
            f"HTTP {status}: {message}", status_code=status, **more
        )

    return make


REFUSALS = {
    "expired token": refusal(401, "token expired"),
    "no money": refusal(402),
    "forbidden": refusal(403),
    "a page": refusal(404, body=b"<html><h1>404 Not Found</h1></html>"),
    "default backend": refusal(404, body=b"default backend - 404"),
    "moved": refusal(301),
    "no such method": refusal(405),
    "proxy": refusal(407),
    "gone": refusal(410),
    "blocked": refusal(451),
    "key not valid": refusal(400, "API key not valid. Please pass a valid API key."),
    "quota": refusal(429, code="insufficient_quota", is_retryable=False),
}


class Turning:
    """Answers `good` requests as they arrive, after a while; then refuses every one at once."""

    def __init__(self, good: int, refuse: Callable[[], InferenceError], patience: int = 1) -> None:
        self.good = good
        self.refuse = refuse
        self.patience = patience

    async def __call__(self, gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) > self.good:
            raise self.refuse()
        for _ in range(self.patience * (hash(prompt) % 7)):
            await asyncio.sleep(0)
        return await succeed(gateway, prompt)


@pytest.mark.parametrize("in_flight", [1, 8, 64, 500])
@pytest.mark.parametrize("kind", REFUSALS)
async def test_no_line_is_burnt_by_a_gateway_that_begins_to_refuse(
    folder: Folder, kind: str, in_flight: int
) -> None:
    write_batch(folder.input, 1_000)
    gateway = FakeGateway(Turning(100, REFUSALS[kind]))
    summary = await folder.run(gateway, concurrency=in_flight)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (100, 0, 900)
    assert summary.gateway_problem == f"the gateway began to refuse: {REFUSALS[kind]()}"
    assert len(gateway.prompts) <= 100 + in_flight + 40
    assert not folder.errors.exists()
    again = await folder.run(FakeGateway(), concurrency=in_flight)
    assert again.succeeded == 1_000


async def test_answers_that_were_asked_for_before_do_not_hide_the_turn(folder: Folder) -> None:
    write_batch(folder.input, 20_000)
    gateway = FakeGateway(Turning(3_000, REFUSALS["expired token"], patience=40))
    summary = await folder.run(gateway, concurrency=500)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (3_000, 0, 17_000)
    assert len(gateway.prompts) <= 3_520


@pytest.mark.parametrize("in_flight", [1, 8, 64])
@pytest.mark.parametrize(
    "places", [{17}, {0}, {99}, {3, 4, 5}, set(range(40, 60)), {9, 19, 29, 99}]
)
async def test_lines_that_a_firewall_refuses_among_good_ones_are_recorded(
    folder: Folder, places: set[int], in_flight: int
) -> None:
    write_batch(folder.input, 100)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if int(prompt.removeprefix("hello id-")) in places:
            raise refusal(403, "blocked by moderation")()
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer), concurrency=in_flight)
    assert summary.gateway_problem is None
    assert (summary.succeeded, summary.left_to_send) == (100 - len(places), 0)
    assert sorted(ids_in(folder.errors)) == sorted(f"id-{n}" for n in places)


async def test_slow_answers_to_later_requests_save_a_gateway_that_refuses_some_at_once(
    folder: Folder,
) -> None:
    write_batch(folder.input, 200)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        # One of two replicas has a stale key: it refuses in no time, the other takes its time.
        if len(gateway.prompts) > 50 and len(gateway.prompts) % 2:
            raise REFUSALS["expired token"]()
        for _ in range(300):
            await asyncio.sleep(0)
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer), concurrency=32)
    # The last lines, after which there is no other answer, stay to be sent.
    assert summary.left_to_send < 10


@pytest.mark.parametrize("kind", ["forbidden", "a page"])
async def test_what_was_refused_for_a_while_is_sent_again(folder: Folder, kind: str) -> None:
    write_batch(folder.input, 500)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if 100 < len(gateway.prompts) <= 106:
            raise REFUSALS[kind]()
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer), concurrency=8)
    assert (summary.succeeded, summary.failed) == (500, 0)


@pytest.mark.parametrize("in_flight", [1, 16])
@pytest.mark.parametrize("order", ["prefix", "file"])
@pytest.mark.parametrize("kind", ["forbidden", "quota", "no such model"])
async def test_one_model_that_is_refused_stops_alone(
    folder: Folder, kind: str, order: Order, in_flight: int
) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(100) for m in ("a", "closed", "z"))
    folder.input.write_bytes(text_of(lines))

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if "closed" in prompt:
            raise refuse()
        return await succeed(gateway, prompt)

    refuse = REFUSALS.get(kind, refusal(404, "No model `closed` here.", code="model_not_found"))
    gateway = FakeGateway(answer)
    summary = await folder.run(gateway, concurrency=in_flight, order=order)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (200, 0, 100)
    assert summary.gateway_problem == f"closed: {refuse()}"
    # Answers of the others do not open it again.
    assert sum("closed" in prompt for prompt in gateway.prompts) < 50


async def test_a_model_that_does_not_exist_stops_alone_whatever_its_lines(folder: Folder) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(40) for m in ("gone", "here"))
    folder.input.write_bytes(text_of(lines))

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if "gone" in prompt:
            raise refusal(404, "The model `gone` does not exist.", code="model_not_found")()
        return await succeed(gateway, prompt)

    gateway = FakeGateway(answer)
    summary = await folder.run(gateway)
    assert (summary.succeeded, summary.failed, summary.left_to_send) == (40, 0, 40)
    assert summary.gateway_problem == "gone: HTTP 404: The model `gone` does not exist."
    assert sum("gone" in prompt for prompt in gateway.prompts) <= 20


async def test_one_bad_parameter_in_every_line_stops_the_run(folder: Folder) -> None:
    write_batch(folder.input, 1_000)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        await asyncio.sleep(0)
        number = len(gateway.prompts)
        raise InvalidRequestError(
            f"HTTP 400: unknown parameter max_token (request id: 2026-{number:09})", status_code=400
        )

    gateway = FakeGateway(answer)
    summary = await folder.run(gateway)
    assert (summary.failed, summary.left_to_send) == (0, 1_000)
    assert "unknown parameter" in (summary.gateway_problem or "")
    assert len(gateway.prompts) < 100
    assert not folder.errors.exists()


async def test_one_bad_parameter_in_every_line_of_one_model_stops_that_model(
    folder: Folder,
) -> None:
    lines = (request(f"{m}{n}", model=m) for n in range(40) for m in ("good", "wrong"))
    folder.input.write_bytes(text_of(lines))

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if "wrong" in prompt:
            raise refusal(400, "temperature must be <= 2")()
        return await succeed(gateway, prompt)

    summary = await folder.run(FakeGateway(answer))
    # Without an answer yet the refusals count for the gateway, and its first answer ends them.
    assert summary.succeeded == 40
    assert summary.failed + summary.left_to_send == 40
    assert summary.left_to_send > 0
    assert "wrong: " in (summary.gateway_problem or "")


async def test_bad_lines_at_the_beginning_of_a_file_stop_nothing(folder: Folder) -> None:
    write_batch(folder.input, 1_000)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if int(prompt.removeprefix("hello id-")) < 400:
            raise InvalidRequestError("HTTP 400: unknown parameter", status_code=400)
        return await succeed(gateway, prompt)

    for in_flight in (1, 64):
        folder.output.unlink(missing_ok=True)
        folder.errors.unlink(missing_ok=True)
        summary = await folder.run(FakeGateway(answer), concurrency=in_flight)
        assert (summary.succeeded, summary.failed, summary.left_to_send) == (600, 400, 0)


@pytest.mark.parametrize("status", [400, 500])
async def test_every_line_may_fail_when_the_user_says_so(folder: Folder, status: int) -> None:
    write_batch(folder.input, 60)
    everything = FailureLimit(share=1)
    bad = FakeGateway(failing(refusal(status)))
    summary = await folder.run(bad, max_failures=everything)
    assert (summary.failed, summary.left_to_send, summary.gateway_problem) == (60, 0, None)


@pytest.mark.parametrize(("limit", "most"), [("7", 7), ("5%", 10), ("0", 0)])
async def test_more_failures_than_allowed_stop_the_run(
    folder: Folder, limit: str, most: int
) -> None:
    write_batch(folder.input, 200)

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        if len(gateway.prompts) % 3 == 0:
            raise InvalidRequestError("HTTP 400: no", status_code=400)
        return await succeed(gateway, prompt)

    gateway = FakeGateway(answer)
    summary = await folder.run(gateway, concurrency=4, max_failures=FailureLimit.parse(limit))
    assert summary.too_many_failed
    assert most < summary.failed <= most + 4
    assert summary.left_to_send > 0
    # The same command goes on.
    assert (await folder.run(FakeGateway())).left_to_send == 0


def test_a_limit_of_failures_is_a_number_or_a_share() -> None:
    assert FailureLimit.parse("12").of(50) == 12
    assert FailureLimit.parse("2.5%").of(1_000) == 25
    assert FailureLimit.parse("100%").is_everything
    assert not FailureLimit.parse("99%").is_everything
    for wrong in ("", "-1", "101%", "5 %%", "many", "1e3", "٣"):
        with pytest.raises(ConfigError, match="max_failures"):
            FailureLimit.parse(wrong)


@settings(FILES, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    lines=st.integers(1, 120),
    concurrency=st.integers(1, 70),
    turn=st.none() | st.integers(0, 100),
    back=st.none() | st.integers(1, 60),
    kind=st.sampled_from(list(REFUSALS)),
    firewalled=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_a_refusal_is_recorded_only_beside_later_answers_and_every_line_ends(
    tmp_path: Path,
    seed: int,
    lines: int,
    concurrency: int,
    turn: int | None,
    back: int | None,
    kind: str,
    firewalled: float,
) -> None:
    chance = random.Random(seed)
    folder = Folder(tmp_path / str(seed))
    folder.input.parent.mkdir(exist_ok=True)
    for leftover in (folder.output, folder.errors):
        leftover.unlink(missing_ok=True)
    write_batch(folder.input, lines)
    blocked = {f"hello id-{n}" for n in range(lines) if chance.random() < firewalled}
    refused_at: dict[str, int] = {}
    answered: list[int] = []

    async def answer(gateway: FakeGateway, prompt: str) -> bytes:
        number = len(gateway.prompts)
        turned = turn is not None and number > turn and (back is None or number <= turn + back)
        if turned or prompt in blocked:
            refused_at.setdefault(prompt.removeprefix("hello "), number)
            raise REFUSALS[kind]() if turned else refusal(403, "blocked")()
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        if chance.random() < 0.05:
            raise ServerError("HTTP 500: oh", status_code=500)
        answered.append(number)
        return await succeed(gateway, prompt)

    gateway = FakeGateway(answer)
    summary = asyncio.run(folder.run(gateway, concurrency=concurrency))
    recorded = ids_in(folder.output) + ids_in(folder.errors)
    assert len(recorded) == len(set(recorded)) == lines - summary.left_to_send
    assert (summary.left_to_send > 0) == (summary.gateway_problem is not None)
    last_answer = max(answered, default=0)
    alone = [
        line for line in ids_in(folder.errors) if refused_at.get(line, last_answer) > last_answer
    ]
    # Refused beside an answer to a later line, a line takes with it what is said in the same words
    # or was refused just behind it.
    beside = any(number < last_answer for number in refused_at.values())
    assert len(alone) <= (1 + len(blocked) + concurrency if beside else 1)
    if turn is not None and back is None and not blocked:
        burnt = [line for line in ids_in(folder.errors) if line in refused_at]
        assert len(burnt) <= 1
        assert not burnt or kind not in ("expired token", "proxy", "no money", "quota")
