"""Sending single requests together: who is joined, who is spared, and that each ends once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import (
    BadResponseError,
    CoalescePolicy,
    ConfigError,
    DeadlineExceededError,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RateLimitError,
    RetryPolicy,
    ServerError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.coalesce.coalescing import CoalescingTransport
from batch_gateway.testing import SimulatorConfig, simulated_gateway
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock

pytestmark = pytest.mark.anyio

EMBEDDINGS = "/v1/embeddings"
Reply = Callable[[list[str]], InferenceError | bytes | None]


def request(text: str, deadline: float = float("inf"), **params: Any) -> PreparedRequest:
    body = msgspec.json.encode({"model": "m", "input": text, **params})
    return PreparedRequest(
        request_id=f"id-{text}", model="m", endpoint=EMBEDDINGS, body=body, deadline=deadline
    )


def embeddings(inputs: list[str]) -> bytes:
    data = [{"index": i, "embedding": [text]} for i, text in enumerate(inputs)]
    return msgspec.json.encode({"object": "list", "data": data, "usage": {"prompt_tokens": 10}})


class Gateway:
    """Answers embeddings with their texts, unless `reply` says otherwise."""

    def __init__(self, reply: Reply = lambda _: None) -> None:
        self.reply = reply
        self.sent: list[list[str]] = []
        self.under_way = 0
        self.held: asyncio.Event | None = None

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        given = json.loads(request.body)["input"]
        inputs: list[str] = given if isinstance(given, list) else [given]
        self.sent.append(inputs)
        self.under_way += 1
        try:
            await (self.held.wait() if self.held is not None else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        reply = self.reply(inputs)
        if isinstance(reply, InferenceError):
            reply.attempts = 1
            raise reply
        return InferenceResponse(
            request_id=request.request_id,
            status_code=200,
            headers=Headers(),
            body=reply or embeddings(inputs),
        )

    async def aclose(self) -> None:
        pass


def layer(gateway: Gateway, size: int = 4) -> CoalescingTransport:
    return CoalescingTransport(gateway, CoalescePolicy(size), ManualClock())


async def outcomes(transport: CoalescingTransport, *requests: PreparedRequest) -> list[Any]:
    sendings = (transport.send(request) for request in requests)
    return await asyncio.gather(*sendings, return_exceptions=True)


def text_of(response: InferenceResponse) -> str:
    entries = response.json()["data"]
    assert [entry["index"] for entry in entries] == [0]
    return str(entries[0]["embedding"][0])


async def test_equal_requests_go_together_at_most_so_many_at_a_time() -> None:
    gateway = Gateway()
    texts = [f"t{number}" for number in range(10)]
    answers = await outcomes(layer(gateway), *map(request, texts))
    assert [text_of(answer) for answer in answers] == texts
    assert [len(inputs) for inputs in gateway.sent] == [4, 4, 2]
    assert [answer.coalesced for answer in answers] == [4] * 8 + [2] * 2
    assert [answer.request_id for answer in answers] == [f"id-{text}" for text in texts]
    assert sum(answer.usage.input_tokens for answer in answers) == 30


async def test_one_alone_is_sent_as_it_is() -> None:
    gateway = Gateway()
    (answer,) = await outcomes(layer(gateway), request("lonely"))
    assert (text_of(answer), answer.coalesced, answer.attempts) == ("lonely", 1, 1)


async def test_a_joint_body_stays_below_its_limit() -> None:
    gateway = Gateway()
    policy = CoalescePolicy(100, max_bytes=1000)
    transport = CoalescingTransport(gateway, policy, ManualClock())
    await outcomes(transport, *(request(f"{number:0300}") for number in range(6)))
    assert [len(inputs) for inputs in gateway.sent] == [3, 3]


async def test_one_bad_input_harms_nobody() -> None:
    def reply(inputs: list[str]) -> InferenceError | None:
        return InvalidRequestError("HTTP 400", status_code=400) if "bad" in inputs else None

    gateway = Gateway(reply)
    good, bad, other = await outcomes(layer(gateway), *map(request, ["good", "bad", "other"]))
    assert (text_of(good), text_of(other)) == ("good", "other")
    assert isinstance(bad, InvalidRequestError)
    assert (good.attempts, good.coalesced, bad.attempts) == (2, 1, 2)
    # It knows that lists as such are taken.
    await outcomes(layer(gateway), *map(request, ["a", "b"]))
    assert gateway.sent[-1] == ["a", "b"]


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("HTTP 429", status_code=429),
        ServerError("HTTP 503", status_code=503),
        ServerError("shed", status_code=500, body=b"request cannot be admitted"),
        GatewayConnectionError("refused"),
    ],
)
async def test_other_errors_are_everybodys(error: InferenceError) -> None:
    gateway = Gateway(lambda _: error)
    ended = await outcomes(layer(gateway), request("a"), request("b"))
    assert [type(one) for one in ended] == [type(error)] * 2
    assert [one.request_id for one in ended] == ["id-a", "id-b"]
    assert [one.coalesced for one in ended] == [2, 2]
    assert ended[0] is not ended[1]
    assert len(gateway.sent) == 1


@pytest.mark.parametrize("answer", [embeddings(["only one"]), b'{"object":"list"}'])
async def test_a_gateway_that_takes_no_lists_is_asked_one_by_one(answer: bytes) -> None:
    gateway = Gateway(lambda inputs: answer if len(inputs) > 1 else None)
    transport = layer(gateway)
    for _ in range(2):
        first, second = await outcomes(transport, request("a"), request("b"))
        assert (text_of(first), text_of(second)) == ("a", "b")
    assert gateway.sent == [["a", "b"], ["a"], ["b"], ["a"], ["b"]]


async def test_an_array_of_answers_is_understood_as_no_lists() -> None:
    def reply(inputs: list[str]) -> InferenceError | None:
        if len(inputs) == 1:
            return None
        return BadResponseError("not an object", status_code=200, body=b" [{}, {}]")

    gateway = Gateway(reply)
    transport = layer(gateway)
    for _ in range(2):
        first, second = await outcomes(transport, request("a"), request("b"))
        assert (text_of(first), text_of(second)) == ("a", "b")
    assert [len(inputs) for inputs in gateway.sent] == [2, 1, 1, 1, 1]


async def test_lists_that_are_always_refused_are_not_tried_for_ever() -> None:
    def reply(inputs: list[str]) -> InferenceError | None:
        return InvalidRequestError("x", status_code=422) if len(inputs) > 1 else None

    gateway = Gateway(reply)
    transport = layer(gateway)
    for _ in range(5):
        await outcomes(transport, request("a"), request("b"))
    assert [len(inputs) for inputs in gateway.sent].count(2) == 3


async def test_a_short_deadline_hurts_only_its_own() -> None:
    gateway = Gateway()
    gateway.held = asyncio.Event()
    transport = layer(gateway, 2)
    soon = asyncio.create_task(transport.send(request("soon", deadline=1000.05)))
    patient = asyncio.create_task(transport.send(request("patient")))
    with pytest.raises(DeadlineExceededError):
        await asyncio.wait_for(soon, 10)
    gateway.held.set()
    assert text_of(await patient) == "patient"


async def test_no_time_to_wait_means_no_waiting() -> None:
    gateway = Gateway()
    await outcomes(layer(gateway), request("a", deadline=1000.001), request("b", deadline=1000.001))
    assert gateway.sent == [["a"], ["b"]]


async def test_the_last_member_to_leave_cuts_the_joint_request_off() -> None:
    gateway = Gateway()
    gateway.held = asyncio.Event()
    transport = layer(gateway, 2)
    tasks = [asyncio.create_task(transport.send(request(text))) for text in ("a", "b")]
    while not gateway.under_way:
        await asyncio.sleep(0)
    tasks[0].cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert gateway.under_way == 1
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for _ in range(5):
        await asyncio.sleep(0)
    assert gateway.under_way == 0


async def test_a_member_that_leaves_early_is_not_sent() -> None:
    gateway = Gateway()
    transport = layer(gateway, 3)
    tasks = [asyncio.create_task(transport.send(request(text))) for text in ("a", "b")]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert gateway.sent == [["b"]]


async def test_closing_ends_everybody() -> None:
    gateway = Gateway()
    gateway.held = asyncio.Event()
    transport = layer(gateway, 2)
    tasks = [asyncio.create_task(transport.send(request(text))) for text in ("a", "b", "c")]
    while not gateway.under_way:
        await asyncio.sleep(0)
    await transport.aclose()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(one, GatewayConnectionError) for one in ended[:2])
    assert gateway.under_way <= 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["good", "poison", "other kind"])),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("turn"), st.integers(1, 6)),
        st.tuples(st.just("outage"), st.booleans()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, size=st.integers(2, 5))
def test_whatever_happens_each_request_ends_once_and_as_it_would_alone(
    steps: list[tuple[str, Any]], size: int
) -> None:
    outage = False

    def reply(inputs: list[str]) -> InferenceError | None:
        if outage:
            return ServerError("down", status_code=503)
        bad = any(text.startswith("poison") for text in inputs)
        return InvalidRequestError("bad", status_code=400) if bad else None

    async def play() -> None:
        nonlocal outage
        gateway = Gateway(reply)
        transport = layer(gateway, size)
        tasks: list[asyncio.Task[InferenceResponse]] = []
        cancelled: set[int] = set()
        for step, value in steps:
            if step == "send":
                text = f"{value}-{len(tasks)}"
                one = request(text, user="u") if value == "other kind" else request(text)
                tasks.append(
                    asyncio.create_task(transport.send(one), name=json.loads(one.body)["input"])
                )
            elif step == "cancel" and value < len(tasks):
                tasks[value].cancel()
                cancelled.add(value)
            elif step == "turn":
                for _ in range(value):
                    await asyncio.sleep(0)
            elif step == "outage":
                outage = value
        ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        for number, (task, end) in enumerate(zip(tasks, ended, strict=True)):
            if isinstance(end, InferenceResponse):
                assert text_of(end) == task.get_name()
                assert not task.get_name().startswith("poison")
            elif isinstance(end, InvalidRequestError):
                assert task.get_name().startswith("poison")
            elif isinstance(end, asyncio.CancelledError):
                assert number in cancelled
            else:
                assert isinstance(end, ServerError)
        for _ in range(5):
            await asyncio.sleep(0)
        assert gateway.under_way == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(play())


async def test_embeddings_through_a_real_gateway_are_the_same_joined_or_alone() -> None:
    config = SimulatorConfig.instant(embedding_dimensions=8)
    with simulated_gateway(config) as gateway:
        settings = HTTPInferenceClientConfig(gateway.url, coalesce=CoalescePolicy(16))
        async with HTTPInferenceClient(settings) as client:
            asked = [
                InferenceRequest(params={"model": "m", "input": f"text {n}"}, endpoint=EMBEDDINGS)
                for n in range(40)
            ]
            together = await asyncio.gather(*map(client.generate, asked))
        async with HTTPInferenceClient(HTTPInferenceClientConfig(gateway.url)) as client:
            alone = [await client.generate(one) for one in asked]
        assert gateway.journal()["completed"] == 3 + 40
    assert [one.json()["data"] for one in together] == [one.json()["data"] for one in alone]
    assert {one.coalesced for one in together} == {16, 8}


async def test_retries_are_those_of_the_joint_request() -> None:
    with simulated_gateway(SimulatorConfig.instant()) as gateway:
        quick = RetryPolicy(max_retries=2, initial_backoff=0.001)
        settings = HTTPInferenceClientConfig(gateway.url, coalesce=CoalescePolicy(8), retry=quick)
        async with HTTPInferenceClient(settings) as client:
            asked = InferenceRequest(params={"model": "fault-status-503", "prompt": "Hello"})
            ended = await asyncio.gather(
                *(client.generate(asked) for _ in range(8)), return_exceptions=True
            )
        assert gateway.journal()["by_status"] == {"503": 3}
    assert {(type(one), getattr(one, "attempts", 0)) for one in ended} == {(ServerError, 3)}


def test_a_wrong_policy_is_named() -> None:
    for wrong in (1, 4096, True, 2.5):
        with pytest.raises(ConfigError, match=r"coalesce\.max_requests"):
            CoalescePolicy(wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"coalesce\.max_wait"):
        CoalescePolicy(2, max_wait="soon")
    with pytest.raises(ConfigError, match=r"coalesce\.max_bytes"):
        CoalescePolicy(2, max_bytes="much")
    with pytest.raises(ConfigError, match=r"coalesce\.max_bytes: is more than"):
        CoalescePolicy(2, max_bytes="9" * 400 + "GiB")
    for endless in ("inf", "2h"):
        with pytest.raises(ConfigError, match=r"coalesce\.max_wait: must be at most 60s"):
            CoalescePolicy(2, max_wait=endless)
