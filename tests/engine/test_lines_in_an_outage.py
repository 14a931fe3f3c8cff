"""What becomes of lines whose gateway is away for a while: with many in flight, or with one."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest

from batch_gateway import (
    FixedConcurrency,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    RetryPolicy,
)
from batch_gateway.client.for_batches import paced, patient_breaker
from batch_gateway.engine.file_journal import FileJournal
from batch_gateway.engine.plan import make_plan
from batch_gateway.engine.progress import RunSummary
from batch_gateway.engine.run import RunOptions, run_plan
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.headers import Headers
from tests.client.posting_only import PostingOnly
from tests.engine.batch_files import request, text_of
from tests.virtual_time import LoopClock, run_in_virtual_time

CLOCK = LoopClock()
ANSWER = b'{"choices":[{"message":{"role":"assistant","content":"x"}}]}'
LAST = "39"


def says(status: int, body: bytes, kind: str = "application/json") -> Callable[[], HTTPResponse]:
    return lambda: HTTPResponse(status, Headers.of({"content-type": kind}), body)


def breaks(error: Exception) -> Callable[[], HTTPResponse]:
    def fail() -> HTTPResponse:
        raise GatewayConnectionError(str(error), cause=error)

    return fail


FAULTS = {
    "503": says(503, b'{"error":{"message":"no healthy upstream"}}'),
    "500": says(500, b'{"error":{"message":"no backend"}}'),
    "502 as a page": says(502, b"<html><body>502 Bad Gateway</body></html>", "text/html"),
    "refused": breaks(ConnectionRefusedError(111, "connection refused")),
    "reset": breaks(ConnectionResetError(104, "connection reset")),
}


class Gateway(PostingOnly):
    """One whose answers take about so many seconds each.

    `away` is from when until when it takes no more requests, or not the `only` one; answers to
    older ones still come.
    """

    def __init__(
        self, fault: str, seconds: float, away: tuple[float, float] = (0.0, 1e9), only: str = ""
    ) -> None:
        self._fault, self._seconds, self._away = FAULTS[fault], seconds, away
        self._only = only
        self._random = random.Random(1)
        self.sent = Counter[str]()
        self.answered = Counter[str]()

    async def post(
        self, path: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: float
    ) -> HTTPResponse:
        prompt = json.loads(body)["messages"][0]["content"]
        self.sent[prompt] += 1
        begin, end = self._away
        if prompt.endswith(self._only) and begin <= CLOCK.monotonic() < end:
            return self._fault()
        await asyncio.sleep(self._seconds * self._random.uniform(0.5, 1.5))
        self.answered[prompt] += 1
        return HTTPResponse(200, Headers(), ANSWER)


def ran(
    folder: Path, gateway: Gateway, concurrency: int | None, lines: int = 40, retries: int = 3
) -> tuple[RunSummary, float]:
    """A run of so many lines as the command does it, and how many seconds it took."""

    async def run() -> tuple[RunSummary, float]:
        config = HTTPInferenceClientConfig(
            "http://gateway",
            circuit_breaker=patient_breaker(),
            retry=RetryPolicy(max_retries=retries),
        )
        if concurrency is None:
            config = paced(config, most=1000, adaptive=True)
        else:
            config = replace(config, concurrency=FixedConcurrency(concurrency))
        with patch("batch_gateway.client.client.build_exchanger", lambda _: gateway):
            client = HTTPInferenceClient(config, clock=CLOCK)
        files = folder / "out.jsonl", folder / "errors.jsonl"
        async with client:
            with make_plan(source) as plan:
                async with FileJournal.open(plan, *files) as journal:
                    options = RunOptions(concurrency=None, order="file", grace=0)
                    summary = await run_plan(
                        plan, journal, lambda _: client, options=options, clock=CLOCK
                    )
                    return summary, CLOCK.monotonic()

    source = folder / "requests.jsonl"
    source.write_bytes(
        text_of(
            request(f"c{n}", body={"model": "m", "messages": [{"role": "user", "content": f"{n}"}]})
            for n in range(lines)
        )
    )
    # The waits before retries are drawn from it.
    random.seed(1)
    return run_in_virtual_time(run())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("concurrency", [1, 2, 8, None])
def test_each_is_answered_once_however_few_are_in_flight(
    tmp_path: Path, fault: str, concurrency: int | None
) -> None:
    gateway = Gateway(fault, 0.05, away=(0.1, 200.0))
    summary, seconds = ran(tmp_path, gateway, concurrency, lines=80)
    assert (summary.succeeded, summary.failed) == (80, 0)
    assert set(gateway.answered.values()) == {1}
    assert seconds < 210


@pytest.mark.parametrize("fault", ["503", "502 as a page", "refused", "reset"])
@pytest.mark.parametrize("concurrency", [2, 8, None])
def test_nor_is_one_lost_while_older_requests_are_still_answered(
    tmp_path: Path, fault: str, concurrency: int | None
) -> None:
    gateway = Gateway(fault, 20.0, away=(30.0, 90.0))
    summary, _ = ran(tmp_path, gateway, concurrency)
    assert (summary.succeeded, summary.failed) == (40, 0)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "refused"])
@pytest.mark.parametrize("concurrency", [1, 2, 8, None])
def test_one_that_alone_fails_among_others_fails_soon(
    tmp_path: Path, fault: str, concurrency: int | None
) -> None:
    gateway = Gateway(fault, 0.05, only="20")
    summary, seconds = ran(tmp_path, gateway, concurrency)
    assert (summary.succeeded, summary.failed) == (39, 1)
    assert gateway.sent["20"] == 4
    assert seconds < 10


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_the_last_one_of_all_is_given_time_but_not_for_ever(tmp_path: Path, fault: str) -> None:
    gateway = Gateway(fault, 0.05, only=LAST)
    summary, seconds = ran(tmp_path, gateway, 8)
    assert (summary.succeeded, summary.failed) == (39, 1)
    assert 60 < seconds < 120
    assert gateway.sent[LAST] < 20


def test_the_last_one_is_answered_when_the_gateway_is_back_within_a_minute(tmp_path: Path) -> None:
    gateway = Gateway("503", 0.05, away=(0.0, 50.0), only=LAST)
    summary, seconds = ran(tmp_path, gateway, 8)
    assert summary.succeeded == 40
    assert seconds < 65


def test_with_no_retries_asked_for_none_is_made(tmp_path: Path) -> None:
    gateway = Gateway("503", 0.05, only="20")
    summary, _ = ran(tmp_path, gateway, 1, retries=0)
    assert summary.failed == 1
    assert gateway.sent["20"] == 1


def test_a_gateway_that_stays_away_ends_the_run_by_its_patience(tmp_path: Path) -> None:
    gateway = Gateway("503", 0.05, away=(0.1, 1e9))
    summary, seconds = ran(tmp_path, gateway, 1)
    assert summary.gateway_problem is not None
    assert "has been failing for 30m" in summary.gateway_problem
    assert summary.failed == 0
    assert 1800 < seconds < 1830
