"""Pods that a picker goes on choosing though they are dead: the pool goes on without them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from batch_gateway import (
    CircuitBreakerPolicy,
    EndpointPickerConfig,
    GatewayConnectionError,
    HTTPInferenceClient,
    InferenceRequest,
    Observer,
    RetryPolicy,
    ServerError,
)
from batch_gateway.client.interfaces.instrumentation import BreakerChanged, RetryScheduled
from batch_gateway.client.layers.circuit_breaker import is_connect_failure
from batch_gateway.testing import PickerConfig, PoolHandle, SimulatorConfig, simulated_pool
from tests.picker.asking import LIMIT_S, client, request
from tests.picker.pod import Received, running_pod, whole
from tests.picker.scripted_picker import Talk, scripted_picker
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

ANSWER = b'{"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]}'
LINES = 400
# As `batch-gateway run` has it.
BREAKER = CircuitBreakerPolicy(
    when_open="wait",
    connect_failures=1,
    broken_connections=4,
    longest_probe=1.5,
    after_success=True,
)


def refusing_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Trouble(Observer):
    """Counts what a dead pod must not cost."""

    def __init__(self) -> None:
        self.retries = 0
        self.opened = 0

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self.retries += 1

    def breaker_changed(self, event: BreakerChanged) -> None:
        self.opened += event.state == "open"


async def ask(
    one: HTTPInferenceClient, streamed: bool, lines: int = LINES, at_once: int = 16
) -> int:
    numbers, answered = iter(range(lines)), 0

    async def work() -> None:
        nonlocal answered
        for number in numbers:
            message = {"role": "user", "content": f"Count to {number}."}
            asked = InferenceRequest(params={"model": "m", "messages": [message]})
            if streamed:
                assert [chunk async for chunk in one.stream(asked)]
            else:
                await one.generate(asked)
            answered += 1

    await asyncio.gather(*(work() for _ in range(at_once)))
    return answered


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("choice", ["least-loaded", "round-robin", "random", "prefix"])
async def test_one_dead_pod_of_two_that_stays_listed_costs_no_retry_and_no_outage(
    choice: Any, streamed: bool
) -> None:
    trouble = Trouble()
    with simulated_pool(pods=2, picker=PickerConfig(choice=choice)) as pool:
        await asyncio.to_thread(pool.pods[0].stop)
        async with client(
            pool.url, retry=QUICK, circuit_breaker=BREAKER, observers=[trouble]
        ) as one:
            assert await ask(one, streamed) == LINES
        asked = len(await asyncio.to_thread(pool.decisions))
        served = pool.pods[1].journal()["completed"]
    assert (trouble.retries, trouble.opened) == (0, 0)
    assert served == LINES
    # At most one question more for each, but for those that found it out.
    assert asked <= 2 * LINES + 100


@pytest.mark.parametrize("choice", ["least-loaded", "round-robin"])
async def test_a_pod_that_dies_in_mid_run_opens_no_breaker_and_is_used_again_when_it_is_back(
    choice: Any,
) -> None:
    trouble, slow = Trouble(), SimulatorConfig.instant().with_changes(time_per_token=0.0005)
    with simulated_pool(pods=2, config=slow, picker=PickerConfig(choice=choice)) as pool:
        async with client(
            pool.url, retry=QUICK, circuit_breaker=BREAKER, observers=[trouble]
        ) as one:
            asking = asyncio.create_task(ask(one, streamed=False))
            await until(lambda: pool.pods[0].journal()["completed"] > 20)
            await asyncio.to_thread(pool.pods[0].stop)
            assert await asking == LINES
            assert trouble.opened == 0
            # What was under way at the pod; nothing of what came later.
            assert trouble.retries <= 16
            await asyncio.to_thread(pool.pods[0].start)
            before = pool.pods[0].journal()["completed"]
            async with asyncio.timeout(LIMIT_S):
                while pool.pods[0].journal()["completed"] == before:
                    await ask(one, streamed=False, lines=8)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.005)


class Stubborn:
    """A picker that chooses one pod until it is told to choose among others."""

    def __init__(self, favourite: str, *others: str, heeds: bool = True) -> None:
        self.favourite = favourite
        self.others = others
        self.heeds = heeds
        self.subsets: list[list[str]] = []

    async def __call__(self, talk: Talk) -> None:
        await talk.question()
        subset = subset_of(talk)
        self.subsets.append(subset)
        allowed = [pod for pod in self.others if pod in subset]
        chosen = self.favourite
        if subset and self.heeds:
            if not allowed:
                await talk.refuse(503, "rejected-no-endpoints")
                return
            chosen = allowed[0]
        await talk.choose(chosen)
        await talk.send_body(talk.body)
        await talk.echo()


def subset_of(talk: Talk) -> list[str]:
    """What both messages say of it, which must be the same."""
    hints = [m.metadata_context.filter_metadata.get("envoy.lb.subset_hint") for m in talk.heard[:2]]
    first, second = (
        []
        if hint is None
        else [
            value.string_value
            for value in hint.fields["x-gateway-destination-endpoint-subset"].list_value.values
        ]
        for hint in hints
    )
    assert first == second
    return first


async def test_the_picker_is_told_which_pods_work_when_it_chooses_one_that_does_not() -> None:
    dead = f"127.0.0.1:{refusing_port()}"
    async with running_pod(whole(ANSWER)) as pod:
        script = Stubborn(pod.endpoint, pod.endpoint)
        async with scripted_picker(script) as picker, client(picker.url) as one:
            await one.generate(request())
            script.favourite = dead
            for _ in range(3):
                assert (await one.generate(request())).attempts == 1
            await picker.all_ended()
    # Each is first asked about freely: there may be new pods, or the dead one may be back.
    assert script.subsets == [[], *[[], [pod.endpoint]] * 3]


async def test_a_subset_that_was_configured_is_kept_to() -> None:
    dead = f"127.0.0.1:{refusing_port()}"
    async with running_pod(whole(ANSWER)) as pod:
        both = [dead, pod.endpoint]
        script = Stubborn(dead, pod.endpoint, dead)
        settings = EndpointPickerConfig(endpoint_subset=both)
        async with scripted_picker(script) as picker:
            async with client(picker.url, endpoint_picker=settings) as one:
                await one.generate(request())
            await picker.all_ended()
    assert all(set(subset) <= set(both) for subset in script.subsets)
    assert script.subsets[0] == both


async def test_a_picker_that_does_not_know_the_pods_any_more_is_asked_for_any() -> None:
    """All of a deployment is replaced: the pods that are known to work are withdrawn as well."""
    async with running_pod(whole(ANSWER)) as old, running_pod(whole(ANSWER)) as new:
        script = Stubborn(old.endpoint)
        async with scripted_picker(script) as picker, client(picker.url) as one:
            await one.generate(request())
            dead = f"127.0.0.1:{refusing_port()}"
            script.favourite = dead

            async def then_new(talk: Talk) -> None:
                if len(script.subsets) >= 3:
                    script.favourite = new.endpoint
                await script(talk)

            picker.script = then_new
            assert (await one.generate(request())).attempts == 1
            await picker.all_ended()
    assert script.subsets == [[], [], [old.endpoint], []]
    assert len(new.received) == 1


async def read(one: HTTPInferenceClient) -> None:
    async for _ in one.stream(request()):
        pass


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_picker_that_insists_on_a_dead_pod_is_no_outage_while_others_work(
    streamed: bool,
) -> None:
    dead = f"127.0.0.1:{refusing_port()}"
    breaker = CircuitBreakerPolicy(minimum_requests=1, failure_ratio=0.1, connect_failures=1)
    async with running_pod(whole(ANSWER)) as pod:
        script = Stubborn(pod.endpoint, heeds=False)
        async with (
            scripted_picker(script) as picker,
            client(picker.url, circuit_breaker=breaker) as one,
        ):
            await one.generate(request())
            script.favourite = dead
            for _ in range(3):
                with pytest.raises(ServerError, match="connection refused") as caught:
                    await (read(one) if streamed else one.generate(request()))
                assert caught.value.code == "pod_unreachable"
                assert caught.value.is_retryable
                assert not is_connect_failure(caught.value)
            await picker.all_ended()


async def test_a_pod_that_takes_connections_and_breaks_them_is_shunned_too() -> None:
    async def hang_up(writer: asyncio.StreamWriter, _: Received) -> None:
        writer.transport.abort()

    trouble = Trouble()
    retry = RetryPolicy(max_retries=3, initial_backoff=0.001)
    async with running_pod(hang_up) as broken, running_pod(whole(ANSWER)) as pod:
        script = Stubborn(pod.endpoint, pod.endpoint)
        async with (
            scripted_picker(script) as picker,
            client(picker.url, retry=retry, circuit_breaker=BREAKER, observers=[trouble]) as one,
        ):
            await one.generate(request())
            script.favourite = broken.endpoint
            for _ in range(20):
                await one.generate(request())
            await picker.all_ended()
    assert trouble.opened == 0
    assert len(broken.received) < 10
    assert trouble.retries == len(broken.received)


async def test_a_pod_that_does_not_answer_a_connection_leaves_time_for_another() -> None:
    # A queue that is full drops what comes, as a node without power does.
    with closing(socket.socket()) as silent, closing(socket.socket()) as waiting:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        waiting.connect(silent.getsockname())
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        async with running_pod(whole(ANSWER)) as pod:
            script = Stubborn(pod.endpoint, pod.endpoint)
            async with scripted_picker(script) as picker, client(picker.url, timeout=3.0) as one:
                await one.generate(request())
                script.favourite = dead
                assert (await one.generate(request())).attempts == 1
                await picker.all_ended()


@pytest.mark.parametrize("pods", [1, 2])
async def test_a_pool_of_which_no_pod_can_be_reached_is_a_gateway_that_is_not_there(
    pods: int,
) -> None:
    choices = [f"127.0.0.1:{refusing_port()}" for _ in range(pods)]

    async def in_turn(talk: Talk) -> None:
        await talk.pass_to(choices[len(picker.talks) % pods])
        await talk.echo()

    async with scripted_picker(in_turn) as picker:
        async with client(picker.url) as one:
            with pytest.raises(
                GatewayConnectionError, match="chosen by the endpoint pick"
            ) as caught:
                await one.generate(request())
        await picker.all_ended()
    assert caught.value.message.count("connection refused") == pods
    assert caught.value.code == "pods_unreachable"
    assert is_connect_failure(caught.value)


async def test_a_pool_that_dies_as_a_whole_is_waited_for() -> None:
    def swap(pool: PoolHandle, what: str) -> None:
        for pod in pool.pods:
            getattr(pod, what)()

    breaker = CircuitBreakerPolicy(
        when_open="wait", connect_failures=1, first_probe=0.02, longest_probe=0.05
    )
    with simulated_pool(pods=2) as pool:
        async with client(pool.url, retry=QUICK, circuit_breaker=breaker) as one:
            await ask(one, streamed=False, lines=8)
            await asyncio.to_thread(swap, pool, "stop")
            asking = asyncio.create_task(ask(one, streamed=False, lines=32))
            while one.events.breaker_state == "closed":
                await asyncio.sleep(0.005)
            await asyncio.to_thread(swap, pool, "start")
            async with asyncio.timeout(LIMIT_S):
                assert await asking == 32
