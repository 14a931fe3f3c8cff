"""Answering from the cache, and identical requests in flight."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import (
    CacheConfig,
    ConfigError,
    DeadlineExceededError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RetryPolicy,
    ServerError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.cache.caching import CacheTransport
from batch_gateway.testing import SimulatorConfig, simulated_gateway
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock

pytestmark = pytest.mark.anyio


def request(text: str, deadline: float = float("inf"), id: str = "r") -> PreparedRequest:
    body = json.dumps({"model": "m", "prompt": text}).encode()
    return PreparedRequest(
        request_id=id, model="m", endpoint="/v1/completions", body=body, deadline=deadline
    )


class Gateway:
    """Answers with a number that goes up; fails while `error` is set; waits while `held`."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.under_way = 0
        self.held: asyncio.Event | None = None
        self.error: InferenceError | None = None
        self.body: bytes | None = None

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.sent.append(json.loads(request.body)["prompt"])
        number = len(self.sent)
        self.under_way += 1
        try:
            await (self.held.wait() if self.held is not None else asyncio.sleep(0))
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        return InferenceResponse(
            request_id=request.request_id,
            status_code=200,
            headers=Headers.of({"Content-Type": "application/json", "Date": "today"}),
            body=self.body or json.dumps({"choices": [{"text": f"{number}"}]}).encode(),
        )

    async def aclose(self) -> None:
        pass


class Cached:
    """A layer over a gateway of its own, with what it tells."""

    def __init__(self, path: Path, **config: Any) -> None:
        self.gateway = Gateway()
        self.clock = ManualClock()
        self.told: list[str] = []
        self.layer = CacheTransport(
            self.gateway,
            CacheConfig(path, **config),
            self.clock,
            namespace="g",
            on_look_up=self.told.append,
        )

    async def __aenter__(self) -> Cached:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.layer.aclose()

    async def until_sent(self, times: int = 1) -> None:
        async with asyncio.timeout(10):
            while len(self.gateway.sent) < times:
                await asyncio.sleep(0.001)


async def test_the_second_of_two_identical_requests_is_not_sent(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        first = await cached.layer.send(request("a", id="one"))
        second = await cached.layer.send(request("a", id="two"))
    assert cached.gateway.sent == ["a"]
    assert first.body == second.body
    assert (first.from_cache, first.attempts) == (False, 1)
    assert (second.from_cache, second.attempts, second.request_id) == (True, 0, "two")
    assert dict(second.headers) == {"content-type": "application/json"}
    assert cached.told == ["miss", "hit"]


async def test_asking_for_the_same_again_and_again_lets_others_run(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        others_ran = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, others_ran.set)
        async with asyncio.timeout(20):
            while not others_ran.is_set():
                await cached.layer.send(request("a"))


async def test_answers_outlive_the_client_and_grow_old(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c", max_age="1h") as cached:
        await cached.layer.send(request("a"))
    async with Cached(tmp_path / "c", max_age="1h") as cached:
        cached.clock.advance(3599)
        assert (await cached.layer.send(request("a"))).from_cache
        cached.clock.advance(2)
        assert not (await cached.layer.send(request("a"))).from_cache
        assert (await cached.layer.send(request("a"))).from_cache


async def test_errors_are_never_kept(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.error = ServerError("down", status_code=503)
        for _ in range(2):
            with pytest.raises(ServerError):
                await cached.layer.send(request("a"))


@pytest.mark.parametrize(
    "body",
    [
        b'{"error": {"message": "said with status 200"}}',
        b'{"choices": []}',
        b'{"choices": [{"text": "Hel", "finish_reason": "abort"}]}',
        b'{"choices": [{"text": "\xff"}]}',
    ],
)
async def test_what_an_earlier_version_took_for_an_answer_is_asked_again(
    tmp_path: Path, body: bytes
) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.body = body
        for _ in range(2):
            assert not (await cached.layer.send(request("a"))).from_cache
        cached.gateway.body = b'{"error": null, "choices": [{"text": "Hello"}]}'
        await cached.layer.send(request("a"))
        assert (await cached.layer.send(request("a"))).from_cache


async def test_identical_requests_in_flight_are_sent_once(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.held = asyncio.Event()
        tasks = [
            asyncio.create_task(cached.layer.send(request("a", id=str(n)))) for n in range(100)
        ]
        await cached.until_sent()
        cached.gateway.held.set()
        answers = await asyncio.gather(*tasks)
    assert cached.gateway.sent == ["a"]
    assert [answer.request_id for answer in answers] == [str(n) for n in range(100)]
    assert [answer.attempts for answer in answers] == [1] + [0] * 99
    assert sorted(cached.told) == ["joined"] * 99 + ["miss"]


async def test_a_cancelled_leader_leaves_the_lead_to_the_next(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.held = asyncio.Event()
        tasks = [asyncio.create_task(cached.layer.send(request("a"))) for _ in range(3)]
        await cached.until_sent()
        tasks[0].cancel()
        await cached.until_sent(2)
        assert cached.gateway.under_way == 1
        cached.gateway.held.set()
        answers = await asyncio.gather(*tasks[1:])
    assert tasks[0].cancelled()
    assert [answer.from_cache for answer in answers] == [False, True]


async def test_a_follower_has_its_own_deadline_and_a_leaders_is_its_own(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.held = asyncio.Event()
        leader = asyncio.create_task(cached.layer.send(request("a")))
        await cached.until_sent()
        with pytest.raises(DeadlineExceededError, match="identical request"):
            await cached.layer.send(request("a", deadline=1000.02))
        cached.gateway.error = DeadlineExceededError("the leader's")
        patient = asyncio.create_task(cached.layer.send(request("a")))
        await asyncio.sleep(0)
        cached.gateway.held.set()
        with pytest.raises(DeadlineExceededError):
            await leader
        cached.gateway.error = None
        assert (await patient).json()["choices"][0]["text"] == "2"


async def test_an_error_goes_to_everyone_who_asked_at_the_same_time(tmp_path: Path) -> None:
    async with Cached(tmp_path / "c") as cached:
        cached.gateway.error = InvalidRequestError("bad", status_code=400)
        ended = await asyncio.gather(
            *(cached.layer.send(request("a", id=str(n))) for n in range(3)), return_exceptions=True
        )
    assert cached.gateway.sent == ["a"]
    assert [one.request_id for one in ended[1:]] == ["1", "2"]  # type: ignore[union-attr]
    assert {type(one) for one in ended} == {InvalidRequestError}
    assert len(set(map(id, ended))) == 3


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from("ab")),
        st.tuples(st.just("cancel"), st.integers(0, 15)),
        st.tuples(st.just("turn"), st.integers(1, 5)),
        st.tuples(st.just("outage"), st.booleans()),
        st.tuples(st.just("settle"), st.none()),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_whatever_happens_each_request_ends_once_and_nothing_is_left(
    steps: list[tuple[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def play() -> None:
        path = tmp_path_factory.mktemp("cache") / "c"
        async with Cached(path) as cached:
            tasks: list[asyncio.Task[InferenceResponse]] = []
            cancelled: set[int] = set()
            for step, value in steps:
                if step == "send":
                    tasks.append(asyncio.create_task(cached.layer.send(request(value))))
                elif step == "cancel" and value < len(tasks):
                    tasks[value].cancel()
                    cancelled.add(value)
                elif step == "turn":
                    for _ in range(value):
                        await asyncio.sleep(0)
                elif step == "settle":
                    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
                elif step == "outage":
                    down = ServerError("down", status_code=503)
                    cached.gateway.error = down if value else None
            ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
            for number, end in enumerate(ended):
                if isinstance(end, asyncio.CancelledError):
                    assert number in cancelled
                else:
                    assert isinstance(end, InferenceResponse | ServerError)
            assert cached.gateway.under_way == 0
            assert cached.layer._flights == {}  # pyright: ignore[reportPrivateUsage]

    asyncio.run(play())


async def test_through_a_real_gateway(tmp_path: Path) -> None:
    asked = InferenceRequest(params={"model": "m", "prompt": "Hello"})
    broken = InferenceRequest(params={"model": "fault-status-500", "prompt": "Hello"})
    with simulated_gateway(SimulatorConfig.instant()) as gateway:
        config = HTTPInferenceClientConfig(
            gateway.url, cache=CacheConfig(tmp_path / "c"), retry=RetryPolicy(max_retries=0)
        )
        for from_cache in (False, True):
            async with HTTPInferenceClient(config) as client:
                answers = await asyncio.gather(*(client.generate(asked) for _ in range(5)))
                with pytest.raises(ServerError):
                    await client.generate(broken)
            assert [answer.from_cache for answer in answers] == [from_cache, True, True, True, True]
        assert gateway.journal()["by_status"] == {"200": 1, "500": 2}


def test_a_place_where_no_cache_can_be_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text('{"custom_id": "a"}\n')
    for wrong, words in [
        (tmp_path, "is a folder"),
        (tmp_path / "no" / "c", "there is no folder"),
        (tmp_path / "results.jsonl", "is a text file"),
    ]:
        with pytest.raises(ConfigError, match=words):
            HTTPInferenceClient(HTTPInferenceClientConfig(cache=CacheConfig(wrong)))
    assert (tmp_path / "results.jsonl").read_text() == '{"custom_id": "a"}\n'


def test_a_wrong_limit_is_named() -> None:
    for wrong, field in [
        ({"max_bytes": "1kB"}, r"cache\.max_bytes"),
        ({"max_bytes": "lots"}, r"cache\.max_bytes"),
        ({"max_bytes": -1}, r"cache\.max_bytes"),
        ({"max_age": 0}, r"cache\.max_age"),
    ]:
        with pytest.raises(ConfigError, match=field):
            CacheConfig("c", **wrong)
    for nowhere in ("", "answers\0"):
        with pytest.raises(ConfigError, match=r"cache\.path"):
            CacheConfig(nowhere)
    assert CacheConfig("c", max_bytes="1.5GiB").max_bytes == 3 * 2**29
    assert CacheConfig("c", max_bytes="2 MB", max_age=None).max_bytes == 2_000_000
