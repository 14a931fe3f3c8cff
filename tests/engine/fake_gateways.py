"""Clients that answer as a test tells them to, and a clock that a test moves."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.wire.headers import Headers

Answer = Callable[["FakeGateway", str], Awaitable[InferenceResponse | bytes]]
"""What a gateway does with the request whose body has this prompt."""


async def succeed(_gateway: FakeGateway, prompt: str) -> bytes:
    """Answers after giving everyone else a turn."""
    await asyncio.sleep(0)
    usage = {"prompt_tokens": 2, "completion_tokens": 3}
    return json.dumps({"echo": prompt, "usage": usage}).encode()


def failing(error: Callable[[], Exception]) -> Answer:
    """Raises a new error for every request."""

    async def fail(_gateway: FakeGateway, _prompt: str) -> bytes:
        await asyncio.sleep(0)
        raise error()

    return fail


class FakeGateway:
    """An `InferenceClient` in memory.

    Attributes:
        answered: how often each prompt got an answer.
        prompts: every prompt in the order of arrival.
        in_flight, most_in_flight: requests under way, now and at most.
        cancelled: requests that were cut off.
        requests: what arrived.
    """

    def __init__(self, answer: Answer = succeed) -> None:
        self.answer = answer
        self.answered: Counter[str] = Counter()
        self.prompts: list[str] = []
        self.requests: list[InferenceRequest] = []
        self.in_flight = self.most_in_flight = self.cancelled = 0
        self.gate = asyncio.Event()
        self.changed = asyncio.Event()

    async def generate(self, request: InferenceRequest) -> InferenceResponse:
        assert isinstance(request.params, bytes)
        prompt = json.loads(request.params)["messages"][0]["content"]
        self.prompts.append(prompt)
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.changed.set()
        try:
            response = await self.answer(self, prompt)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1
            self.changed.set()
        self.answered[prompt] += 1
        if isinstance(response, InferenceResponse):
            return response
        return InferenceResponse(
            request_id=request.request_id, status_code=200, headers=Headers(), body=response
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when `condition` holds; it is looked at whenever a request comes or goes."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


async def when_let_go(gateway: FakeGateway, prompt: str) -> bytes:
    """Answers once the test sets the gateway's gate."""
    await gateway.gate.wait()
    return await succeed(gateway, prompt)


class SteppedClock:
    """Time that stands still until `advance`; whoever sleeps is woken by it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self.now

    def wall_time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        # Whoever is about to sleep must have begun, or its time would start too late.
        for _ in range(5):
            await asyncio.sleep(0)
        self.now += seconds
        for wake, woken in self._sleepers:
            if wake <= self.now and not woken.done():
                woken.set_result(None)
        await asyncio.sleep(0)
