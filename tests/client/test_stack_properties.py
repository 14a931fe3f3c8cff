"""The whole stack of layers under random answers, faults, jumps of the clock and cancellations."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import (
    AdaptiveConcurrency,
    BadResponseError,
    CacheConfig,
    CircuitBreakerPolicy,
    CoalescePolicy,
    FixedConcurrency,
    GatewayConnectionError,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    InferenceResponse,
    RateLimit,
    RequestTimeoutError,
    RetryPolicy,
    SchedulingHints,
    StaleConnectionError,
)
from batch_gateway.client.client import build_stack
from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.client.layers.cache import caching as cache_layer
from batch_gateway.client.prepare import prepare
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.wire.headers import Headers
from tests.client.posting_only import PostingOnly
from tests.client.prompt_store import PromptStore
from tests.virtual_time import LoopClock, VirtualTimeLoop, run_in_virtual_time

MAX_RETRIES = 3
GOOD = "good"


def refusal(status: int, **headers: str) -> HTTPResponse:
    pairs = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPResponse(status, Headers.of(pairs), b'{"error":{"message":"no"}}')


def answer_to(prompts: Sequence[str]) -> HTTPResponse:
    choices = [{"index": i, "text": f"re {prompt}"} for i, prompt in enumerate(prompts)]
    usage = {"prompt_tokens": 3 * len(prompts), "completion_tokens": 4 * len(prompts)}
    return HTTPResponse(200, Headers(), json.dumps({"choices": choices, "usage": usage}).encode())


EMPTY = HTTPResponse(200, Headers(), b"")
ANSWERS = [
    GOOD,
    GOOD,
    GOOD,
    refusal(400),
    refusal(401),
    refusal(429),
    refusal(429, retry_after="3"),
    refusal(500),
    refusal(503, x_llm_d_request_dropped_reason="rejected-no-endpoints"),
    refusal(429, x_llm_d_request_dropped_reason="rejected-ttl-expired"),
    EMPTY,
    GatewayConnectionError("refused"),
    StaleConnectionError("stale"),
    BadResponseError("cut short"),
    "stall",
]


@dataclass
class Exchanger(PostingOnly):
    """Answers from a script, one entry a sending, after a while; keeps count of everything."""

    script: Sequence[tuple[int, float]]

    def __post_init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.prompts: Counter[str] = Counter()
        self.last_sent: dict[str, float] = {}
        self.in_flight = self.most_in_flight = 0
        self.late: list[str] = []
        self.deadlines: dict[str, float] = {}

    async def post(
        self, path: str, headers: Sequence[tuple[str, str]], body: bytes, *, deadline: float
    ) -> HTTPResponse:
        request_id = dict(headers)["X-Request-ID"]
        loop = asyncio.get_running_loop()
        turn = sum(self.sent.values())
        self.sent[request_id] += 1
        if loop.time() >= self.deadlines.get(request_id, float("inf")):
            self.late.append(request_id)
        given = json.loads(body)["prompt"]
        prompts: list[str] = given if isinstance(given, list) else [given]
        self.prompts.update(prompts)
        self.last_sent |= dict.fromkeys(prompts, loop.time())
        answer, latency = self.script[turn % len(self.script)]
        chosen = ANSWERS[answer]
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            async with asyncio.timeout_at(deadline):
                await asyncio.sleep(1e9 if chosen == "stall" else latency)
        except TimeoutError as error:
            raise RequestTimeoutError("did not answer in time", cause=error) from error
        finally:
            self.in_flight -= 1
        if isinstance(chosen, InferenceError):
            raise type(chosen)(chosen.message)
        return chosen if isinstance(chosen, HTTPResponse) else answer_to(prompts)


@dataclass(frozen=True)
class Asked:
    """One request of a schedule: when it comes, how long it may take, when it is cancelled."""

    at: float
    prompt: str
    deadline: float | None
    cancelled_after: float | None


ASKED = st.builds(
    Asked,
    at=st.floats(0, 30) | st.sampled_from([0.0, 1.0]),
    prompt=st.sampled_from(["one", "two", "three"]),
    deadline=st.none() | st.floats(0.1, 60),
    cancelled_after=st.none() | st.floats(0, 20),
)
BREAKERS = st.sampled_from(
    [
        None,
        CircuitBreakerPolicy(minimum_requests=5, connect_failures=2),
        CircuitBreakerPolicy(
            minimum_requests=5, connect_failures=2, when_open="wait", patience=100, longest_probe=2
        ),
    ]
)
RATES = st.sampled_from(
    [None, RateLimit(requests_per_minute=120), RateLimit(tokens_per_minute=5000, learn=True)]
)
LIMITS = st.sampled_from(
    [None, FixedConcurrency(1), FixedConcurrency(3), AdaptiveConcurrency(initial=2, maximum=4)]
)
COALESCE = st.sampled_from([None, CoalescePolicy(2), CoalescePolicy(5, max_wait=2)])


@dataclass(frozen=True)
class Layers:
    """What a stack is built of, beside retries and hints to the scheduler."""

    breaker: CircuitBreakerPolicy | None
    rate: RateLimit | None
    limit: AdaptiveConcurrency | FixedConcurrency | None
    coalesce: CoalescePolicy | None
    cached: bool

    @property
    def has_probes(self) -> bool:
        """A breaker that waits sends probes of its own."""
        return self.breaker is not None and self.breaker.when_open == "wait"

    def config(self, cache: Path) -> HTTPInferenceClientConfig:
        return HTTPInferenceClientConfig(
            timeout=10,
            retry=RetryPolicy(max_retries=MAX_RETRIES),
            circuit_breaker=self.breaker,
            rate_limit=self.rate,
            concurrency=self.limit,
            coalesce=self.coalesce,
            cache=CacheConfig(cache) if self.cached else None,
            scheduling=SchedulingHints(),
        )


LAYERS = st.builds(Layers, BREAKERS, RATES, LIMITS, COALESCE, st.booleans())


@dataclass(frozen=True)
class Ended:
    """How a request of a schedule ended, and when."""

    how: InferenceResponse | InferenceError | asyncio.CancelledError
    at: float


async def run_schedule(
    asked: Sequence[Asked],
    script: Sequence[tuple[int, float]],
    config: HTTPInferenceClientConfig,
    jumps: Sequence[tuple[float, float]],
) -> tuple[Sequence[Ended], Exchanger]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    clock, exchanger = LoopClock(), Exchanger(script)
    stack = build_stack(config, exchanger, clock, GatewayEvents("gateway"))

    async def ask(number: int, one: Asked) -> InferenceResponse:
        await asyncio.sleep(one.at)
        params = {"model": "m", "prompt": one.prompt}
        request = prepare(
            InferenceRequest(request_id=f"r{number}", params=params, deadline=one.deadline), clock
        )
        exchanger.deadlines[request.request_id] = request.deadline
        return await stack.send(request)

    async def end_of(task: asyncio.Task[InferenceResponse]) -> Ended:
        try:
            return Ended(await task, loop.time())
        except (InferenceError, asyncio.CancelledError) as error:
            return Ended(error, loop.time())

    tasks = [asyncio.create_task(ask(number, one)) for number, one in enumerate(asked)]
    for task, one in zip(tasks, asked, strict=True):
        if one.cancelled_after is not None:
            loop.call_later(one.at + one.cancelled_after, task.cancel)
    for at, seconds in jumps:
        loop.call_later(at, loop.jump, seconds)
    try:
        ends = await asyncio.wait_for(asyncio.gather(*map(end_of, tasks)), 100_000)
    finally:
        await stack.aclose()
    return ends, exchanger


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A new place for a cache every time."""
    folder = tmp_path_factory.mktemp("caches")
    return (folder / f"{number}" for number in itertools.count())


@settings(max_examples=100, deadline=None)
@given(
    st.lists(ASKED, min_size=1, max_size=12),
    st.lists(
        st.tuples(st.integers(0, len(ANSWERS) - 1), st.floats(0.001, 5)), min_size=1, max_size=30
    ),
    LAYERS,
    st.lists(st.tuples(st.floats(0, 40), st.floats(0, 120)), max_size=3),
)
def test_every_request_ends_once_in_time_and_within_its_attempts(
    caches: Iterator[Path],
    asked: list[Asked],
    script: list[tuple[int, float]],
    layers: Layers,
    jumps: list[tuple[float, float]],
) -> None:
    config = layers.config(next(caches))
    with patch.object(cache_layer, "StoreThread", PromptStore):
        ends, exchanger = run_in_virtual_time(run_schedule(asked, script, config, jumps))
    assert len(ends) == len(asked)
    for number, (one, end) in enumerate(zip(asked, ends, strict=True)):
        check_end(f"r{number}", one, end, layers, exchanger)
    if not layers.has_probes:
        assert all(sent <= MAX_RETRIES + 1 for sent in exchanger.sent.values())
    assert exchanger.in_flight == 0
    if isinstance(layers.limit, FixedConcurrency):
        assert exchanger.most_in_flight <= layers.limit.limit
    # A jump of the clock while a request was on its way to the socket is nobody's fault.
    assert jumps or exchanger.late == []
    if layers.cached and layers.coalesce is None and not layers.has_probes and not jumps:
        check_what_was_answered_is_not_sent(asked, ends, exchanger)


def check_end(
    request_id: str, one: Asked, end: Ended, layers: Layers, exchanger: Exchanger
) -> None:
    how = end.how
    # A request that went out in vain with others goes out again alone.
    most = (MAX_RETRIES + 1) * (1 if layers.coalesce is None else 2)
    if isinstance(how, asyncio.CancelledError):
        assert one.cancelled_after is not None
        return
    assert how.request_id == request_id
    assert how.attempts <= most
    if isinstance(how, InferenceError):
        return
    assert how.json()["choices"] == [{"index": 0, "text": f"re {one.prompt}"}]
    assert how.attempts <= exchanger.prompts[one.prompt]
    assert (how.attempts == 0) == how.from_cache
    assert layers.cached or not how.from_cache
    if layers.coalesce is None and not how.from_cache:
        assert how.attempts <= exchanger.sent[request_id]


def check_what_was_answered_is_not_sent(
    asked: Sequence[Asked], ends: Sequence[Ended], exchanger: Exchanger
) -> None:
    for one, end in zip(asked, ends, strict=True):
        if isinstance(end.how, InferenceResponse):
            assert exchanger.last_sent[one.prompt] <= end.at
