"""Nothing is left of requests that are over, however they ended."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from itertools import cycle, islice

import pytest

from batch_gateway import (
    EndpointPickerConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
)
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.http.connection import Connection
from batch_gateway.picker.conversation import Conversation
from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.relay import Relay
from batch_gateway.testing import simulated_pool

pytestmark = pytest.mark.anyio

OF_A_REQUEST = (Call, Conversation, Dialogue, Relay)
FAULTS = (
    "only-header", "only-header", "evict", "status-503", "grpc-status=14", "early-close",
    "silent-response", "reset-stream; at=picked", "dead-first", "all-dead", "no-destination",
    "hang",
)  # fmt: skip
LIMIT_S = 60.0


async def ask(client: HTTPInferenceClient, fault: str, streamed: bool) -> None:
    message = {"role": "user", "content": "Hi!"}
    request = InferenceRequest(
        params={"model": "m", "messages": [message]},
        headers={"X-Simulate-Picker-Fault": fault},
        deadline=0.2 if fault == "hang" else None,
    )
    try:
        if streamed:
            async for _ in client.stream(request):
                pass
        else:
            await client.generate(request)
    except InferenceError:
        pass


async def cancelled(client: HTTPInferenceClient, turns: int) -> None:
    """A request whose task is cancelled so many turns of the event loop after it began."""
    task = asyncio.create_task(ask(client, "only-header", streamed=False))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


def left() -> Counter[str]:
    gc.collect()
    kinds = (type(item) for item in gc.get_objects())
    return Counter(kind.__name__ for kind in kinds if kind in (*OF_A_REQUEST, Connection))


async def test_nothing_is_left_of_requests_that_are_over() -> None:
    settings, tasks = EndpointPickerConfig(echo_timeout=0.05), asyncio.all_tasks()
    # What other tests in this process left behind is theirs.
    before = left()
    with simulated_pool(pods=2) as pool:
        config = HTTPInferenceClientConfig(
            pool.url, timeout=5.0, retry=None, max_connections=8, endpoint_picker=settings
        )
        async with HTTPInferenceClient(config) as client, asyncio.timeout(LIMIT_S):
            for _ in range(3):
                faults = islice(cycle(FAULTS), 240)
                await asyncio.gather(
                    *(ask(client, fault, number % 2 == 0) for number, fault in enumerate(faults)),
                    *(cancelled(client, turns) for turns in range(60)),
                )
            # Pickers end their streams a moment after the answer.
            while any(name in left() - before for name in [kind.__name__ for kind in OF_A_REQUEST]):
                await asyncio.sleep(0.01)
            assert (left() - before).keys() <= {"Connection"}
            assert (left() - before)["Connection"] <= 2 * 8
            assert asyncio.all_tasks() == tasks
        assert not left() - before
