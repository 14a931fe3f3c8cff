"""What observers are told about the requests of a client, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from batch_gateway import (
    ConfigError,
    FixedConcurrency,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RoutedInferenceClient,
)
from batch_gateway.client.interfaces.instrumentation import (
    AttemptFinished,
    GatewayEvents,
    LimitChanged,
    Observer,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.testing import GatewayHandle, simulated_gateway
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway(output_tokens=100, output_distribution="fixed") as running:
        yield running


class Notebook(Observer):
    """Keeps everything, in order."""

    def __init__(self) -> None:
        self.clients: list[GatewayEvents] = []
        self.started: list[RequestStarted] = []
        self.finished: list[RequestFinished] = []
        self.retries: list[RetryScheduled] = []
        self.states: list[object] = []

    def attached(self, events: GatewayEvents) -> None:
        self.clients.append(events)

    def request_started(self, event: RequestStarted) -> None:
        self.started.append(event)

    def request_finished(self, event: RequestFinished) -> None:
        self.finished.append(event)

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self.retries.append(event)

    def limit_changed(self, event: object) -> None:
        self.states.append(event)

    breaker_changed = cache_looked_up = coalesced = rate_limit_waited = limit_changed


def ask(model: str = "m", max_tokens: int = 16, **more: Any) -> InferenceRequest:
    params = {"model": model, "prompt": "Hello!", "max_tokens": max_tokens}
    return InferenceRequest(params=params, **more)


def client_of(gateway: GatewayHandle, *observers: Observer) -> HTTPInferenceClient:
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK, timeout="10s")
    return HTTPInferenceClient(config, observers=observers)


async def test_a_good_answer_is_told_with_its_tokens_and_its_time(gateway: GatewayHandle) -> None:
    notes = Notebook()
    async with client_of(gateway, notes) as client:
        response = await client.generate(ask(request_id="r-1"))
    [started], [finished] = notes.started, notes.finished
    assert finished.started is started
    assert (started.gateway, started.request_id) == (gateway.url, "r-1")
    assert (started.model, started.endpoint) == ("m", "/v1/completions")
    assert (finished.outcome, finished.code, finished.attempts) == ("ok", "", 1)
    assert finished.usage == response.usage is not None
    assert finished.duration >= response.duration > 0
    assert notes.retries == []


async def test_each_retry_is_told_with_its_reason_and_its_wait(gateway: GatewayHandle) -> None:
    notes = Notebook()
    async with client_of(gateway, notes) as client:
        await client.generate(ask("fault-status-503;times=2", request_id="r-2"))
    assert [(retry.attempt, retry.reason) for retry in notes.retries] == [
        (1, "server_error"),
        (2, "server_error"),
    ]
    assert all(0 <= retry.delay < 1 for retry in notes.retries)
    assert notes.finished[0].attempts == 3


async def test_an_error_is_told_by_its_category_and_a_code_that_is_ours(
    gateway: GatewayHandle,
) -> None:
    notes = Notebook()
    async with client_of(gateway, notes) as client:
        with pytest.raises(InferenceError) as caught:
            await client.generate(ask("fault-status-429"))
    [finished] = notes.finished
    assert finished.error is caught.value
    assert (finished.outcome, finished.code) == ("RATE_LIMIT", "rate_limit_exceeded")
    assert (finished.attempts, finished.usage) == (3, None)


async def test_a_streamed_answer_is_told_when_its_last_chunk_was_read(
    gateway: GatewayHandle,
) -> None:
    notes = Notebook()
    async with client_of(gateway, notes) as client:
        async with client.stream(ask()) as stream:
            assert [chunk async for chunk in stream]
        async with client.stream(ask(max_tokens=100)) as stream:
            async for _ in stream:
                break
    read, left = notes.finished
    assert read.outcome == "ok"
    assert read.time_to_first_token is not None
    assert left.outcome == "cancelled"
    assert client.events.requests_in_flight == client.events.attempts_in_flight == 0


async def test_what_is_in_flight_is_counted_and_returns_to_nothing(gateway: GatewayHandle) -> None:
    notes = Notebook()
    async with client_of(gateway, notes) as client:
        events = client.events
        tasks = [asyncio.create_task(client.generate(ask("fault-stall"))) for _ in range(3)]
        async with asyncio.timeout(10):
            while events.attempts_in_flight < 3:
                await asyncio.sleep(0.001)
        assert events.requests_in_flight == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (events.requests_in_flight, events.attempts_in_flight) == (0, 0)
    assert [event.outcome for event in notes.finished] == ["cancelled"] * 3


async def test_headers_of_observers_go_out_with_every_attempt(gateway: GatewayHandle) -> None:
    class Tracer(Observer):
        def headers(self, event: RequestStarted) -> Sequence[tuple[str, str]]:
            return [("traceparent", f"of-{event.request_id}")]

    gateway.clear_journal()
    async with client_of(gateway, Tracer()) as client:
        await client.generate(
            ask("fault-status-503;times=1", request_id="r-3", headers={"Traceparent": "mine"})
        )
    seen = [request.header(b"traceparent") for request in gateway.recent_requests()]
    assert seen[-2:] == ["of-r-3", "of-r-3"]


async def test_an_observer_that_fails_harms_no_request_and_is_reported_once(
    gateway: GatewayHandle, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Observer):
        def request_started(self, event: RequestStarted) -> None:
            raise ValueError("first")

        def headers(self, event: RequestStarted) -> Sequence[tuple[str, str]]:
            raise ValueError("second")

        def request_finished(self, event: RequestFinished) -> None:
            raise ValueError("third")

    notes = Notebook()
    async with client_of(gateway, Broken(), notes) as client:
        for _ in range(3):
            assert (await client.generate(ask())).status_code == 200
    assert len(notes.finished) == 3
    reported = [record.getMessage() for record in caplog.records]
    assert len(reported) == 3
    assert all("Broken." in message for message in reported)
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


async def test_routed_clients_report_under_their_gateways_names(gateway: GatewayHandle) -> None:
    notes = Notebook()
    default = HTTPInferenceClientConfig(gateway.url)
    routes = {"large": HTTPInferenceClientConfig(gateway.url, timeout="20m"), "small": default}
    async with RoutedInferenceClient(default, routes, observers=[notes]) as client:
        for model in ("other", "large", "small"):
            await client.generate(ask(model))
    assert [event.started.gateway for event in notes.finished] == [
        gateway.url,
        f"{gateway.url} (2)",
        gateway.url,
    ]
    assert [events.gateway for events in notes.clients] == [gateway.url, f"{gateway.url} (2)"]


def test_layers_tell_their_state_and_it_can_be_read_later() -> None:
    notes = Notebook()
    events = GatewayEvents("g", [notes])
    assert (events.limit, events.breaker_state) == (None, None)
    events.limit_changed(32, Why(Reason.KNEE), True)
    events.breaker_changed("open")
    events.cache_looked_up("hit")
    events.coalesced(16)
    events.rate_limit_waited(0.5)
    assert (events.limit, events.breaker_state) == (32, "open")
    assert events.why == Why(Reason.KNEE)
    assert notes.states[0] == LimitChanged("g", 32, Why(Reason.KNEE), True)
    assert [type(state).__name__ for state in notes.states] == [
        "LimitChanged",
        "BreakerChanged",
        "CacheLookedUp",
        "Coalesced",
        "RateLimitWaited",
    ]


class Bystander(Observer):
    """Hears what happens at a gateway, and of no request."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self.heard.append(event.reason)


class Attempts(Observer):
    """Keeps what goes to the gateway, in order; hears of no request."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.durations: list[float] = []

    def attempt_started(self, event: RequestStarted) -> None:
        self.told.append(("began", event.request_id))

    def attempt_finished(self, event: AttemptFinished) -> None:
        self.told.append(("ended", event.started.request_id))
        self.durations.append(event.duration)


async def test_each_sending_is_told_by_itself_and_no_wait_is_part_of_one(
    gateway: GatewayHandle,
) -> None:
    notes = Attempts()
    config = HTTPInferenceClientConfig(gateway.url, retry=QUICK, concurrency=FixedConcurrency(1))
    async with HTTPInferenceClient(config, observers=[notes]) as client:
        assert not client.events.requests_are_heard
        names = [f"r-{number}" for number in range(3)]
        began = time.monotonic()
        await asyncio.gather(*(client.generate(ask(request_id=one)) for one in names))
        assert notes.told == [(what, one) for one in names for what in ("began", "ended")]
        assert sum(notes.durations) <= time.monotonic() - began
        notes.told.clear()
        await client.generate(ask("fault-status-503;times=2", request_id="again"))
        assert notes.told == [("began", "again"), ("ended", "again")] * 3


async def test_an_attempt_that_is_aborted_has_ended(gateway: GatewayHandle) -> None:
    notes = Attempts()
    async with client_of(gateway, notes) as client:
        task = asyncio.create_task(client.generate(ask("fault-stall", request_id="r")))
        async with asyncio.timeout(10):
            while not notes.told:
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert notes.told == [("began", "r"), ("ended", "r")]


class Reader(Observer):
    """Reads a client's numbers whenever it wants to."""

    def attached(self, events: GatewayEvents) -> None:
        self.events = events


async def test_there_is_no_layer_where_nobody_hears_of_requests(gateway: GatewayHandle) -> None:
    bystander = Bystander()
    for observers in ([], [bystander]):
        async with client_of(gateway, *observers) as client:
            assert not client.events.requests_are_heard
            await client.generate(ask("fault-status-503;times=1"))
            assert not client.events.closed
        assert client.events.closed
    assert bystander.heard == ["server_error"]


async def test_who_keeps_a_clients_numbers_can_read_how_many_requests_there_are(
    gateway: GatewayHandle,
) -> None:
    reader = Reader()
    async with client_of(gateway, reader) as client:
        task = asyncio.create_task(client.generate(ask("fault-stall")))
        async with asyncio.timeout(10):
            while not reader.events.attempts_in_flight:
                await asyncio.sleep(0.001)
        assert reader.events.requests_in_flight == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_something_else_than_an_observer_is_refused() -> None:
    with pytest.raises(ConfigError, match="observers: <object object at .*> is not an Observer"):
        HTTPInferenceClient(observers=[object()])  # pyright: ignore[reportArgumentType]
