"""Permits: how many attempts are under way, in which order, and what becomes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    ConfigError,
    DeadlineExceededError,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InferenceResponse,
    RateLimitError,
    RetryPolicy,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from batch_gateway.client.layers.concurrency.controllers import FixedController
from batch_gateway.client.layers.retry import RetryTransport
from batch_gateway.concurrency.events import Ended, Started
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig
from batch_gateway.wire.headers import Headers
from tests.virtual_time import LoopClock, run_in_virtual_time

Answer = Callable[[PreparedRequest], float | Exception]


class Server:
    """Takes a second for each request, or as long as told, or fails as told."""

    def __init__(self, answer: Answer = lambda _: 1.0) -> None:
        self.answer = answer
        self.under_way = 0
        self.most = 0
        self.order: list[str] = []
        self.times: list[float] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self.order.append(request.request_id)
        self.times.append(asyncio.get_running_loop().time())
        try:
            answer = self.answer(request)
            if isinstance(answer, Exception):
                raise answer
            await asyncio.sleep(answer)
        finally:
            self.under_way -= 1
        return InferenceResponse(
            request_id=request.request_id, status_code=200, headers=Headers(), body=b"{}"
        )

    async def aclose(self) -> None:
        pass


def request(number: int = 0, deadline: float = float("inf")) -> PreparedRequest:
    return PreparedRequest(
        request_id=str(number), model="m", endpoint="/v1/x", body=b"{}", deadline=deadline
    )


class Limited(AdmissionTransport):
    """The layer with nothing in it but a concurrency limit."""

    def __init__(
        self,
        server: Server,
        policy: AdaptiveConcurrency | FixedConcurrency,
        on_limit: Callable[[int, Why | None, bool], None] | None = None,
    ) -> None:
        self.admission = Admission(LoopClock(), concurrency=policy, on_limit=on_limit)
        super().__init__(server, self.admission)

    @property
    def statistics(self) -> ConcurrencyStatistics:
        assert self.admission.limit is not None
        return self.admission.limit.statistics(LoopClock().monotonic())


def test_no_more_attempts_than_the_limit_are_under_way_and_they_go_in_order() -> None:
    async def main() -> None:
        server = Server()
        layer = Limited(server, FixedConcurrency(3))
        sending = [asyncio.create_task(layer.send(request(n))) for n in range(10)]
        await asyncio.sleep(0.5)
        assert layer.statistics == ConcurrencyStatistics(limit=3, in_flight=3, waiting=7)
        await asyncio.gather(*sending)
        assert server.most == 3
        assert server.order == [str(n) for n in range(10)]
        assert layer.statistics == ConcurrencyStatistics(limit=3, in_flight=0, waiting=0)

    run_in_virtual_time(main())


def test_a_backoff_holds_no_permit() -> None:
    def answer(request: PreparedRequest) -> float | Exception:
        if request.request_id == "0" and request.attempt == 1:
            return RateLimitError("full", status_code=429, retry_after=60.0)
        return 1.0

    async def main() -> None:
        server = Server(answer)
        clock = LoopClock()
        layer = Limited(server, FixedConcurrency(1))
        retrying = RetryTransport(layer, RetryPolicy(), clock)
        first = asyncio.create_task(retrying.send(request(0)))
        await asyncio.gather(*(retrying.send(request(n)) for n in range(1, 5)))
        assert clock.monotonic() < 10
        assert not first.done()
        await first
        assert server.order == ["0", "1", "2", "3", "4", "0"]

    run_in_virtual_time(main())


def test_a_cancelled_wait_gives_its_place_to_the_next() -> None:
    async def main() -> None:
        server = Server()
        layer = Limited(server, FixedConcurrency(1))
        sending = [asyncio.create_task(layer.send(request(n))) for n in range(3)]
        await asyncio.sleep(0.5)
        sending[1].cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        assert server.order == ["0", "2"]
        assert layer.statistics.in_flight == 0

    run_in_virtual_time(main())


def test_a_permit_that_was_granted_to_a_task_cancelled_at_that_moment_is_not_lost() -> None:
    async def main() -> None:
        server = Server()
        layer = Limited(server, FixedConcurrency(1))
        sending = [asyncio.create_task(layer.send(request(n))) for n in range(3)]
        # Its callbacks run right after the first permit is handed on, before the second wakes.
        sending[0].add_done_callback(lambda _: sending[1].cancel())
        await asyncio.gather(*sending, return_exceptions=True)
        assert layer.statistics == ConcurrencyStatistics(limit=1, in_flight=0, waiting=0)
        assert server.order[-1] == "2"

    run_in_virtual_time(main())


def test_a_cancelled_attempt_gives_its_permit_back() -> None:
    async def main() -> None:
        server = Server()
        layer = Limited(server, FixedConcurrency(1))
        sending = [asyncio.create_task(layer.send(request(n))) for n in range(2)]
        await asyncio.sleep(0.5)
        sending[0].cancel()
        await sending[1]
        assert server.times == [0.0, 0.5]

    run_in_virtual_time(main())


def test_a_deadline_that_passes_in_the_queue_is_an_error_and_nothing_is_sent() -> None:
    async def main() -> None:
        server = Server(lambda _: 30.0)
        layer = Limited(server, FixedConcurrency(1))
        first = asyncio.create_task(layer.send(request(0)))
        await asyncio.sleep(0)
        with pytest.raises(DeadlineExceededError, match="waited for its turn"):
            await layer.send(request(1, deadline=5.0))
        assert LoopClock().monotonic() == 5.0
        await first
        assert server.order == ["0"]

    run_in_virtual_time(main())


def test_an_outage_is_probed_by_one_request_at_a_time_at_a_slow_pace() -> None:
    def answer(request: PreparedRequest) -> float | Exception:
        if LoopClock().monotonic() < 60:
            return RateLimitError("nobody", status_code=429)
        return 0.5

    async def main() -> None:
        server = Server(answer)
        clock = LoopClock()
        layer = Limited(server, AdaptiveConcurrency())
        retrying = RetryTransport(
            layer, RetryPolicy(max_retries=50, budget_per_second=100), clock, lambda _, high: high
        )
        await asyncio.gather(*(retrying.send(request(n)) for n in range(100)))
        before = [at for at in server.times if at < 60]
        # The first sixteen went together; after that, no more than one every two seconds.
        assert len(before) < 16 + 40
        assert len(server.order) - len(before) >= 100
        await layer.aclose()

    run_in_virtual_time(main())


def test_each_new_limit_is_told() -> None:
    async def main() -> None:
        told: list[int] = []
        server = Server()
        layer = Limited(
            server,
            AdaptiveConcurrency(initial=4, maximum=20),
            lambda limit, why, is_news: told.append(limit),
        )
        await asyncio.gather(*(layer.send(request(n)) for n in range(200)))
        assert told[0] == 4
        assert max(told) == 20
        assert server.most == 20

    run_in_virtual_time(main())


class Reasons(FixedController):
    """Allows eight at a time, now for this reason and now for that."""

    def __init__(self) -> None:
        super().__init__(8)
        self.why: Why | None = Why(Reason.CLIMBING)

    def finished(self, started: Started, ended: Ended, now: float) -> None:
        super().finished(started, ended, now)
        if now >= 10.0:
            self.why = Why(Reason.CEILING, 8.0)


def test_each_new_reason_is_told_though_the_limit_stays() -> None:
    async def main() -> None:
        told: list[tuple[int, Why | None, bool]] = []
        with mock.patch("batch_gateway.client.layers.concurrency.limit.AdaptiveController") as made:
            made.return_value = Reasons()
            layer = Limited(Server(), AdaptiveConcurrency(), lambda *all_: told.append(all_))
        await asyncio.gather(*(layer.send(request(n)) for n in range(160)))
        assert told == [
            (8, Why(Reason.CLIMBING), True),
            (8, Why(Reason.CEILING, 8.0), True),
        ]
        # Twenty seconds in all; during the last one nobody waits.
        statistics = layer.statistics
        assert statistics.why == Why(Reason.CEILING, 8.0)
        assert [(one.why.reason, one.limit) for one in statistics.held] == [
            (Reason.CLIMBING, 8),
            (Reason.CEILING, 8),
        ]
        assert [one.seconds for one in statistics.held] == pytest.approx([10.0, 9.0])

    run_in_virtual_time(main())


def test_a_fixed_number_has_no_reason_to_tell() -> None:
    async def main() -> None:
        told: list[tuple[int, Why | None, bool]] = []
        layer = Limited(Server(), FixedConcurrency(2), lambda *all_: told.append(all_))
        await asyncio.gather(*(layer.send(request(n)) for n in range(10)))
        assert told == [(2, None, False)]
        assert layer.statistics.why is None
        assert layer.statistics.held == ()

    run_in_virtual_time(main())


def test_closing_ends_every_wait() -> None:
    async def main() -> None:
        layer = Limited(Server(lambda _: 9.0), FixedConcurrency(1))
        sending = [asyncio.create_task(layer.send(request(n))) for n in range(3)]
        await asyncio.sleep(0.5)
        await layer.aclose()
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert [type(result) for result in results[1:]] == [asyncio.CancelledError] * 2

    run_in_virtual_time(main())


@pytest.mark.parametrize(
    ("field", "settings"),
    [
        ("concurrency.initial", {"initial": 0}),
        ("concurrency.initial", {"initial": 50, "maximum": 20}),
        ("concurrency.maximum", {"maximum": 2.5}),
        ("concurrency.worthwhile", {"worthwhile": 1.0}),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        AdaptiveConcurrency(**settings)
    assert caught.value.field == field


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_keeps_within_the_seats_of_a_gateway_that_refuses_beyond(stream: bool) -> None:
    async def main() -> None:
        seats = SimulatorConfig(seats=8, queue_limit=0, time_per_token=0.001, output_tokens=8)
        async with SimulatedGateway(seats) as gateway:
            config = HTTPInferenceClientConfig(
                gateway.url,
                concurrency=AdaptiveConcurrency(),
                stream_upstream=stream,
                retry=RetryPolicy(max_retries=20, rate_limit_backoff=0.05, max_backoff=0.1),
            )
            async with HTTPInferenceClient(config) as client:
                params = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
                await asyncio.gather(
                    *(client.generate(InferenceRequest(params=params)) for _ in range(300))
                )
            refused = sum(status == 429 for status in _statuses(gateway))
            # Sixteen at a time all along would be refused as often as answered; a busy machine
            # makes some tries late.
            assert refused < 120

    asyncio.run(asyncio.wait_for(main(), 30))


def _statuses(gateway: SimulatedGateway) -> list[int]:
    return [status for seen in gateway.journal.requests.values() for status in seen.statuses]


def test_a_sick_gateway_takes_nothing_from_a_healthy_one() -> None:
    async def answered(sick: bool) -> int:
        healthy = Server(lambda _: 0.5)
        layers = [Limited(healthy, AdaptiveConcurrency(maximum=50))]
        if sick:
            never = Server(lambda _: 1e6)
            layers.append(Limited(never, AdaptiveConcurrency(maximum=50)))
        sending = [
            asyncio.create_task(layer.send(request(n))) for n in range(5_000) for layer in layers
        ]
        await asyncio.sleep(30)
        done = healthy.order[: len(healthy.order) - healthy.under_way]
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        return len(done)

    alone = run_in_virtual_time(answered(sick=False))
    assert alone > 1_000
    assert run_in_virtual_time(answered(sick=True)) >= 0.95 * alone
