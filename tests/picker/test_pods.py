"""Connections to pods: kept for each, within limits, and given up with the pod."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway import (
    EndpointPickerConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
)
from batch_gateway.picker.pod_table import PodTable
from tests.picker.pod import Received, running_pod, whole
from tests.picker.scripted_picker import Talk, scripted_picker

ANSWER = b'{"choices":[{"text":"Hi"}]}'
LIMIT_S = 60.0


def request() -> InferenceRequest:
    return InferenceRequest(params=b'{"model":"m"}', model="m", endpoint="/v1/completions")


def client(url: str, settings: EndpointPickerConfig, **more: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(
            url, retry=None, timeout=LIMIT_S, endpoint_picker=settings, **more
        )
    )


class InTurn:
    """A picker that chooses what the test says."""

    choice = ""

    async def __call__(self, talk: Talk) -> None:
        await talk.pass_to(self.choice)
        await talk.echo()


@pytest.mark.anyio
async def test_a_pods_connection_is_used_again() -> None:
    script = InTurn()
    async with running_pod(whole(ANSWER)) as pod, scripted_picker(script) as picker:
        script.choice = pod.endpoint
        async with client(picker.url, EndpointPickerConfig()) as one:
            for _ in range(5):
                await one.generate(request())
    assert pod.connections == 1


@pytest.mark.anyio
async def test_limits_hold_for_each_pod() -> None:
    script, most = InTurn(), 0

    async def answer(writer: asyncio.StreamWriter, received: Received) -> None:
        nonlocal most
        most = max(most, pod.open)
        await asyncio.sleep(0)
        await whole(ANSWER)(writer, received)

    async with running_pod(answer) as pod, scripted_picker(script) as picker:
        script.choice = pod.endpoint
        async with client(picker.url, EndpointPickerConfig(), max_connections=2) as one:
            await asyncio.gather(*(one.generate(request()) for _ in range(12)))
    assert most <= 2
    assert len(pod.received) == 12


@pytest.mark.anyio
async def test_the_connections_of_a_pod_that_is_not_chosen_any_more_are_closed() -> None:
    script = InTurn()
    async with (
        running_pod(whole(ANSWER)) as old,
        running_pod(whole(ANSWER)) as new,
        scripted_picker(script) as picker,
        client(picker.url, EndpointPickerConfig(pod_idle_timeout=0.05)) as one,
    ):
        script.choice = old.endpoint
        await one.generate(request())
        script.choice = new.endpoint
        async with asyncio.timeout(LIMIT_S):
            while not old.lost.is_set():
                await one.generate(request())
        assert new.connections >= 1


@pytest.mark.anyio
async def test_connections_are_kept_to_so_many_pods_only() -> None:
    script = InTurn()
    async with (
        running_pod(whole(ANSWER)) as old,
        running_pod(whole(ANSWER)) as new,
        scripted_picker(script) as picker,
        client(picker.url, EndpointPickerConfig(max_pods=1)) as one,
    ):
        for pod in (old, new):
            script.choice = pod.endpoint
            await one.generate(request())
        async with asyncio.timeout(LIMIT_S):
            await old.lost.wait()
        assert new.open == 1


Steps = st.lists(
    st.tuples(st.sampled_from(["take", "give", "drop", "later"]), st.integers(0, 3)), max_size=60
)


@given(Steps, st.integers(1, 3))
def test_no_pod_is_closed_under_a_request_and_none_is_forgotten(
    steps: list[tuple[str, int]], most: int
) -> None:
    table: PodTable[object] = PodTable(most=most, idle_timeout=10.0)
    now, made, closed = 0.0, set[object](), set[object]()
    in_use: list[tuple[str, object]] = []

    def close(pods: list[object]) -> None:
        for pod in pods:
            assert pod not in closed
            assert all(pod is not used for _, used in in_use)
            closed.add(pod)

    for step, number in steps:
        endpoint = f"10.0.0.{number}:80"
        if step == "take":
            close(table.expire(now))
            pod = table.take(endpoint, now)
            if pod is None:
                pod = object()
                made.add(pod)
                in_use.append((endpoint, pod))
                close(table.add(endpoint, pod, now))
            else:
                in_use.append((endpoint, pod))
        elif step == "later":
            now += 4.0 * number
        elif in_use:
            endpoint, pod = in_use.pop(number % len(in_use))
            if step == "drop":
                table.drop(endpoint, pod)
            close(table.give_back(endpoint, pod))
        assert len(table) <= max(most, len({endpoint for endpoint, _ in in_use}))
    in_use.clear()
    rest = table.clear()
    assert closed.isdisjoint(rest)
    assert closed | set(rest) == made


def test_a_pod_is_forgotten_once_it_was_not_chosen_for_long() -> None:
    table: PodTable[str] = PodTable(most=9, idle_timeout=10.0)
    table.add("a:1", "a", 0.0)
    table.give_back("a:1", "a")
    table.add("b:1", "b", 5.0)
    assert table.expire(9.9) == []
    assert table.expire(10.0) == ["a"]
    # One that is in use stays, however long ago it was chosen.
    assert table.expire(50.0) == []
    assert table.take("b:1", 50.0) == "b"
