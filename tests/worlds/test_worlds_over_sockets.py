"""The gateway of worlds over sockets, in its own process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch_gateway import HTTPInferenceClient, HTTPInferenceClientConfig, InferenceRequest
from benchmarks.worlds.realtime import SocketWorld, Table, figures_of, measure, served

pytestmark = pytest.mark.anyio
PARAMS: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}


async def test_it_answers_and_tells_what_it_received_and_refused() -> None:
    refusing = SocketWorld(
        settings={"latency_scale": 0.0, "requests_per_minute": 1, "requests_burst": 3}, fixed=(1,)
    )
    async with served(refusing) as url:
        config = HTTPInferenceClientConfig(url, retry=None)
        async with HTTPInferenceClient(config) as client:
            answers = await asyncio.gather(
                *(client.generate(InferenceRequest(params=PARAMS)) for _ in range(5)),
                return_exceptions=True,
            )
        told = await asyncio.to_thread(figures_of, url)
    assert sum(isinstance(answer, Exception) for answer in answers) == 2
    assert told["received"] == 5
    assert told["refused"] == 2


def test_each_cell_is_a_share_of_the_best_fixed_one_in_its_form() -> None:
    rates = {"adaptive": 90.0, "fixed 1": 50.0, "fixed 64": 100.0}
    streamed = {"adaptive, streamed": 45.0, "fixed 1, streamed": 50.0}
    table = Table({name: {"answers/s": rate} for name, rate in (rates | streamed).items()})
    table.judge()
    shares = [cell["of best fixed"] for cell in table.cells.values()]
    assert shares == [0.9, 0.5, 1.0, 0.9, 1.0]


async def test_people_come_by_themselves_and_tell_how_long_they_wait() -> None:
    crowd = SocketWorld(
        settings={"seats": 8, "output_tokens": 4}, people=(40.0, 0, 0.0), fixed=(1,)
    )
    async with served(crowd) as url, asyncio.timeout(30):
        while (told := await asyncio.to_thread(figures_of, url))["received"] < 4:
            await asyncio.sleep(0.1)
        while not told["people_p99"]:
            told = await asyncio.to_thread(figures_of, url)
    assert 0 < told["people_p99"] < 30


async def test_two_clients_have_each_a_share() -> None:
    world = SocketWorld(settings={"latency_scale": 0.1}, clients=2, fixed=(4,))
    figures = await measure(world, "fixed 4", 1.0)
    assert figures["answers/s"] > 0
    assert 0 < figures["least"] <= 1
