"""Every fault of a simulated picker: answered, or an error that says what it was; never a leak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from batch_gateway import (
    EndpointPickerConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceError,
    InferenceRequest,
    RetryPolicy,
)
from batch_gateway.simulator.picker.picker_faults import PICKER_FAULTS
from batch_gateway.testing import PoolHandle, simulated_pool

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0
# Those that an answer is to be had under, without asking again.
HARMLESS = {
    "dead-first", "only-metadata", "only-header", "old-headers", "set-header", "remove-header",
    "grow-body", "small-chunks", "lightweight", "early-close", "silent-response", "slow-pick",
    "goaway",
}  # fmt: skip


@pytest.fixture(scope="module")
def pool() -> Iterator[PoolHandle]:
    with simulated_pool(pods=2) as running:
        yield running


@pytest.fixture
async def client(pool: PoolHandle) -> AsyncIterator[HTTPInferenceClient]:
    config = HTTPInferenceClientConfig(
        pool.url,
        timeout=1.5,
        retry=None,
        endpoint_picker=EndpointPickerConfig(echo_timeout=0.1),
    )
    async with HTTPInferenceClient(config) as made:
        yield made


def request(fault: str, **more: Any) -> InferenceRequest:
    return InferenceRequest(
        params={"model": "m", "messages": [{"role": "user", "content": "Hi!"}], **more},
        headers={"X-Simulate-Picker-Fault": fault},
    )


def spelled(fault: str) -> str:
    """Quick to have, where it takes a time."""
    return {"slow-pick": "slow-pick=0.05"}.get(fault, fault)


@pytest.mark.parametrize("fault", [name for name in PICKER_FAULTS if name != "path"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_fault_of_the_picker_is_survived_or_told(
    client: HTTPInferenceClient, fault: str, streamed: bool
) -> None:
    asked = request(spelled(fault))
    error = None
    async with asyncio.timeout(LIMIT_S):
        try:
            if streamed:
                assert [chunk async for chunk in client.stream(asked)]
            else:
                assert (await client.generate(asked)).json()["choices"]
        except InferenceError as caught:
            error = caught
        # The next request is none the worse for it.
        assert (await client.generate(request("only-header"))).status_code == 200
    if fault in HARMLESS:
        assert error is None, repr(error)
    else:
        assert error is not None
        assert error.message


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("moment", ["picked", "response"])
@pytest.mark.parametrize("end", ["grpc-status=14", "close", "reset-stream", "reset-connection"])
async def test_a_call_that_ends_behind_the_choice_does_not_take_the_answer_with_it(
    client: HTTPInferenceClient, end: str, moment: str, streamed: bool
) -> None:
    asked = request(f"{end}; at={moment}")
    async with asyncio.timeout(LIMIT_S):
        if streamed:
            assert [chunk async for chunk in client.stream(asked)]
        else:
            assert (await client.generate(asked)).json()["choices"]


async def test_evictions_are_ridden_out_by_retries(pool: PoolHandle) -> None:
    quick = RetryPolicy(max_retries=3, initial_backoff=0.001, rate_limit_backoff=0.001)
    config = HTTPInferenceClientConfig(pool.url, timeout=LIMIT_S, retry=quick)
    async with HTTPInferenceClient(config) as client:
        response = await client.generate(request("evict; times=2"))
    assert response.attempts == 3
