"""A gateway's own metrics: what they change for requests under way, and what happens without."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    ConfigError,
    GatewayMetrics,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    LimitChanged,
    Observer,
    TLSConfig,
)
from batch_gateway.simulator.simulated_gateway import SimulatedGateway
from batch_gateway.simulator.simulator_config import SimulatorConfig
from tests.client.layers.concurrency.metrics_server import MetricsServer, vllm_page
from tests.http.behaviour.certificates import Certificates

pytestmark = pytest.mark.anyio

# A fifth of a second on a server with room for all: latency never says that too many wait.
_ROOMY = SimulatorConfig(seats=512, time_per_token="5ms", load_growth=0.0, output_tokens=40)


def client_of(
    gateway: SimulatedGateway,
    *urls: str,
    initial: int = 40,
    tls: TLSConfig | None = None,
    observers: Sequence[Observer] = (),
    **more: Any,
) -> HTTPInferenceClient:
    metrics = GatewayMetrics(urls, interval=0.03, **more)
    policy = AdaptiveConcurrency(initial=initial, gateway_metrics=metrics)
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(gateway.url, concurrency=policy, tls=tls or TLSConfig()),
        observers=observers,
    )


@asynccontextmanager
async def sending(client: HTTPInferenceClient, callers: int) -> AsyncGenerator[None]:
    """So many callers, each with one request after another, until the end of the block."""
    params = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

    async def call() -> None:
        while True:
            await client.generate(InferenceRequest(params=params))

    calls = [asyncio.create_task(call()) for _ in range(callers)]
    try:
        yield
    finally:
        for each in calls:
            each.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended


class Limits(Observer):
    """Every limit since the client was made."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def limit_changed(self, event: LimitChanged) -> None:
        self.seen.append(event.limit)

    async def until_one_is(self, low: int, high: int) -> None:
        async with asyncio.timeout(20):
            while not any(low <= limit <= high for limit in self.seen):
                await asyncio.sleep(0.005)


async def until_limit(client: HTTPInferenceClient, low: float, high: float) -> None:
    async with asyncio.timeout(20):
        while not low <= (client.concurrency_limit or 0) <= high:
            await asyncio.sleep(0.005)


async def test_ours_come_down_by_their_share_of_those_that_wait() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=20, waiting=20)) as server,
        client_of(gateway, server.url, observers=[limits := Limits()]) as client,
        sending(client, callers=80),
    ):
        # Forty at first; half of all that is there waits, and a tenth may.
        await limits.until_one_is(20, 24)


async def test_servers_with_a_page_each_are_counted_together() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=10, waiting=20)) as first,
        MetricsServer(vllm_page(running=10, waiting=0)) as second,
        client_of(gateway, first.url, second.url, observers=[limits := Limits()]) as client,
        sending(client, callers=80),
    ):
        await limits.until_one_is(20, 24)


async def test_a_nearly_full_cache_stops_every_raise_until_there_is_room_again() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=40, waiting=0, usage=0.97)) as server,
        client_of(gateway, server.url) as client,
        sending(client, callers=200),
    ):
        # Rounds of a fifth of a second would have doubled it by the third.
        async with asyncio.timeout(20):
            while gateway.journal.by_status[200] < 40 * 4:
                assert (client.concurrency_limit or 0) <= 42
                await asyncio.sleep(0.02)
        server.page = vllm_page(running=40, waiting=0, usage=0.5)
        await until_limit(client, 50, 400)


async def test_requests_that_wait_for_a_permit_go_as_soon_as_the_advice_is_taken_back() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=1, waiting=39)) as server,
        client_of(gateway, server.url) as client,
        sending(client, callers=80),
    ):
        await until_limit(client, 1, 6)
        server.page = vllm_page(running=1, waiting=0)
        await until_limit(client, 8, 200)


@pytest.mark.parametrize(
    ("harm", "said", "timeout"),
    [
        ({"status": 503}, "HTTP 503", 10.0),
        ({"page": b"\x00\xff{{{ no metrics"}, "none of the known metrics", 10.0),
        ({"page": b"x" * 4096}, "larger than", 10.0),
        # A busy machine must not take longer for a page that is of use.
        ({"silent": True}, "in time", 1.0),
    ],
)
async def test_a_page_that_is_of_no_use_is_told_of_once_and_left_out_until_it_returns(
    harm: dict[str, Any], said: str, timeout: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batch_gateway.gateway_metrics")
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=40, waiting=0)) as server,
        client_of(gateway, server.url, timeout=timeout, max_bytes=2048) as client,
        sending(client, callers=80),
    ):
        await server.looked_at()
        for name, value in harm.items():
            setattr(server, name, value)
        await server.looked_at(4)
        assert len(caplog.records) == 1
        assert said in caplog.text
        assert server.url in caplog.text
        # Of 400 answers a second, a twentieth may wait.
        server.page, server.status, server.silent = vllm_page(20, 60), 200, False
        await until_limit(client, 1, 24)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    statistics = client.metrics_statistics
    assert statistics is not None
    assert statistics.missed >= 2
    assert statistics.lowered >= 1


async def test_advice_ends_with_the_page_it_came_from() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=1, waiting=39)) as server,
        client_of(gateway, server.url) as client,
        sending(client, callers=80),
    ):
        await until_limit(client, 1, 6)
        server.status = 500
        await until_limit(client, 8, 200)


async def test_nothing_is_asked_while_nothing_is_under_way() -> None:
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(running=1, waiting=0)) as server,
        client_of(gateway, server.url) as client,
    ):
        async with sending(client, callers=2):
            await server.looked_at()
        tasks = {task for task in asyncio.all_tasks() if "_watch" in repr(task)}
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks)
        asked = len(server.heads)
        async with sending(client, callers=2):
            await server.looked_at()
        assert len(server.heads) > asked


async def test_a_page_may_need_a_token_and_gets_no_key_of_the_gateway(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with SimulatedGateway(_ROOMY) as gateway, MetricsServer(vllm_page(1, 0)) as server:
        metrics = GatewayMetrics(f"{server.url}?a=b", token_file=token)
        config = HTTPInferenceClientConfig(
            gateway.url,
            api_key="secret-key",
            headers={"X-Secret": "7"},
            concurrency=AdaptiveConcurrency(gateway_metrics=metrics),
        )
        async with HTTPInferenceClient(config) as client:
            assert await client.metrics_problems() == []
            token.write_text("second\n")
            assert await client.metrics_problems() == []
            token.unlink()
            [problem] = await client.metrics_problems()
    assert server.heads[0].startswith("GET /metrics?a=b HTTP/1.1\r\n")
    assert ["Bearer first" in head for head in server.heads] == [True, False]
    assert "Bearer second" in server.heads[1]
    assert not any("secret-key" in head or "X-Secret" in head for head in server.heads)
    assert str(token) in problem
    assert "a=b" not in problem


async def test_a_page_is_verified_as_the_gateway_is(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with (
        SimulatedGateway(_ROOMY) as gateway,
        MetricsServer(vllm_page(1, 0), tls=certificates.server()) as server,
    ):
        tls = TLSConfig(ca_file=certificates.ca_file)
        async with client_of(gateway, server.url, tls=tls) as client:
            assert await client.metrics_problems() == []
        async with client_of(gateway, server.url) as client:
            [problem] = await client.metrics_problems()
    assert "certificate" in problem


async def test_the_simulators_own_page_is_understood() -> None:
    few = SimulatorConfig(seats=8, time_per_token="10ms", output_tokens=20)
    async with (
        SimulatedGateway(few) as gateway,
        client_of(gateway, f"{gateway.url}/metrics") as client,
    ):
        assert await client.metrics_problems() == []
        async with sending(client, callers=80):
            await until_limit(client, 1, 12)
            statistics = client.metrics_statistics
    assert statistics is not None
    assert statistics.lowered >= 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"urls": ()}, "gateway_metrics.urls"),
        ({"urls": "ftp://host/metrics"}, "gateway_metrics.urls"),
        ({"urls": "http://user:password@host/metrics"}, "gateway_metrics.urls"),
        ({"urls": "http://host/a b"}, "gateway_metrics.urls"),
        ({"urls": ("http://host", "http://host/metrics")}, "gateway_metrics.urls"),
        ({"interval": 0}, "gateway_metrics.interval"),
        ({"timeout": "never"}, "gateway_metrics.timeout"),
        ({"token_file": "/nowhere/token"}, "gateway_metrics.token_file"),
        ({"max_bytes": 0}, "gateway_metrics.max_bytes"),
    ],
)
async def test_impossible_settings_are_refused_by_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GatewayMetrics(**{"urls": "http://host:8000", **changes})
    assert caught.value.field == field
    assert "password" not in str(caught.value)


async def test_a_url_without_a_path_means_the_usual_one() -> None:
    assert GatewayMetrics("http://host:8000/").pages == ("http://host:8000/metrics",)
