"""One step before every attempt: who goes first, and what those who wait hold."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway import (
    FixedConcurrency,
    HTTPInferenceClient,
    InferenceRequest,
    InferenceResponse,
    InvalidRequestError,
    RateLimit,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.layers.admission.admission import Admission
from batch_gateway.client.layers.admission.layer import AdmissionTransport
from tests.virtual_time import LoopClock, run_in_virtual_time

NONE = float("inf")


class Server:
    """Takes a second for each request."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.times: list[float] = []

    async def send(self, request: PreparedRequest) -> InferenceResponse:
        self.order.append(request.request_id)
        self.times.append(LoopClock().monotonic())
        await asyncio.sleep(1.0)
        return InferenceResponse(request_id=request.request_id, status_code=200, body=b"{}")

    async def aclose(self) -> None:
        pass


def request(name: str, due: float = NONE, tenant: str = "") -> PreparedRequest:
    return PreparedRequest(
        request_id=name, model="m", endpoint="/v1/x", body=b"{}", due=due, tenant=tenant
    )


@pytest.mark.parametrize("limit", ["concurrency", "rate"])
def test_an_urgent_request_goes_next_whatever_the_others_wait_for(limit: str) -> None:
    async def main() -> None:
        server = Server()
        admission = (
            Admission(LoopClock(), concurrency=FixedConcurrency(1))
            if limit == "concurrency"
            else Admission(LoopClock(), rate_limit=RateLimit(requests_per_minute=60, burst=0))
        )
        layer = AdmissionTransport(server, admission)
        tasks = [asyncio.create_task(layer.send(request(f"day {n}", 86_400))) for n in range(20)]
        await asyncio.sleep(2.5)
        tasks.append(asyncio.create_task(layer.send(request("hour", 3600))))
        await asyncio.gather(*tasks)
        assert server.order.index("hour") == 3
        await layer.aclose()

    run_in_virtual_time(main())


def test_tenants_take_turns_however_many_each_has_waiting() -> None:
    async def main() -> None:
        server = Server()
        layer = AdmissionTransport(server, Admission(LoopClock(), concurrency=FixedConcurrency(2)))
        many = [asyncio.create_task(layer.send(request("a", tenant="a"))) for _ in range(100)]
        await asyncio.sleep(0.5)
        few = [asyncio.create_task(layer.send(request("b", tenant="b"))) for _ in range(5)]
        await asyncio.gather(*few)
        assert server.order[2:12].count("b") == 5
        await asyncio.gather(*many)
        await layer.aclose()

    run_in_virtual_time(main())


def test_who_waits_for_a_place_spends_nothing_of_the_rate_meanwhile() -> None:
    async def main() -> None:
        server = Server()
        rate = RateLimit(requests_per_minute=60, burst=0)
        admission = Admission(LoopClock(), rate_limit=rate, concurrency=FixedConcurrency(1))
        layer = AdmissionTransport(server, admission)
        first = asyncio.create_task(layer.send(request("first")))
        await asyncio.sleep(0)
        gone = [asyncio.create_task(layer.send(request("gone"))) for _ in range(50)]
        await asyncio.sleep(0.5)
        for task in gone:
            task.cancel()
        await asyncio.gather(first, *gone, return_exceptions=True)
        await layer.send(request("next"))
        assert server.times == [0.0, 1.0]
        await layer.aclose()

    run_in_virtual_time(main())


def test_what_nobody_uses_is_given_back_by_who_leaves_at_the_moment_of_its_turn() -> None:
    async def main() -> None:
        rate = RateLimit(requests_per_minute=60, burst=0)
        admission = Admission(LoopClock(), rate_limit=rate, concurrency=FixedConcurrency(1))
        first = admission.acquire_nowait(request("first"))
        assert first is not None
        leaves = asyncio.create_task(admission.acquire(request("leaves")))
        await asyncio.sleep(1.5)
        admission.abandoned(first)
        leaves.cancel()
        await asyncio.wait([leaves])
        assert leaves.cancelled()
        assert admission.acquire_nowait(request("next")) is not None
        await admission.aclose()

    run_in_virtual_time(main())


@pytest.mark.parametrize("wrong", [{"due": "soon"}, {"due": float("nan")}, {"tenant": 7}])
def test_a_wrong_due_time_or_tenant_is_named(wrong: dict[str, object]) -> None:
    async def main() -> None:
        async with HTTPInferenceClient() as client:
            with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
                await client.generate(
                    InferenceRequest(params={"model": "m", "prompt": "x"}, **wrong)  # type: ignore[arg-type]
                )

    asyncio.run(main())
