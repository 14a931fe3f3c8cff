"""Refusals, waiting and evictions, as a data plane meets them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from batch_gateway.simulator.picker.incoming import parse_request
from batch_gateway.testing import PoolHandle, SimulatedPool, SimulatorConfig, simulated_pool

from .data_plane import CHAT, Call, DataPlane, data_plane, set_headers

REASON = "x-llm-d-request-dropped-reason"
PRIORITIES = {"batch": -1, "interactive": 100}
BATCH = {"x-llm-d-inference-objective": "batch"}
INTERACTIVE = {"x-gateway-inference-objective": "interactive"}


@contextmanager
def controlled(**settings: object) -> Iterator[tuple[PoolHandle, DataPlane]]:
    """One pod that takes one request at a time: the second one queues in the picker."""
    with simulated_pool(pods=1, objectives=PRIORITIES) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(flow_control=True, queue_depth_threshold=1, **settings)
        yield pool, plane


def placed(plane: DataPlane, **headers: str) -> Call:
    call = plane.call()
    call.send_request(headers=headers)
    call.receive_pick()
    return call


def queued(pool: PoolHandle, plane: DataPlane, headers: dict[str, str]) -> Call:
    before = pool.waiting_in_picker()
    call = plane.call()
    call.send_request(headers=headers)
    while pool.waiting_in_picker() == before:
        pass
    return call


@contextmanager
def busy(pool: PoolHandle, count: int) -> Iterator[None]:
    """So many requests on the only pod, which are not answered for long."""
    body = json.dumps({**CHAT, "max_tokens": 1_000}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with ExitStack() as stack:
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", pool.pods[0].port))
            stack.enter_context(sock)
            sock.sendall(head.encode() + body)
        while pool.pods[0].journal()["in_flight"] < count:
            pass
        yield
    while pool.pods[0].journal()["in_flight"]:
        pass


def test_what_waits_goes_when_there_is_room_the_most_urgent_first() -> None:
    with controlled() as (pool, plane):
        first = placed(plane)
        waiting = [
            queued(pool, plane, {"x-request-id": name, **headers})
            for name, headers in (("b", BATCH), ("n", {}), ("i", INTERACTIVE))
        ]
        first.cancel()
        for call in reversed(waiting):
            call.receive_pick()
            call.finish()
        order = sorted(pool.decisions()[1:], key=lambda d: d.picked_at)
        assert [d.request_id for d in order] == ["i", "n", "b"]
        assert [d.priority for d in order] == [100, 0, -1]


def test_the_response_says_how_long_it_waited() -> None:
    with controlled() as (_, plane):
        call = placed(plane)
        call.send_response(200, {}, [b"{}"], served="x")
        echo = call.finish()[0].response_headers.response.header_mutation
        assert set_headers(echo)["x-llm-d-flow-queue-duration-ms"].isdigit()


def test_a_full_queue_refuses() -> None:
    with controlled(queue_limit=0) as (pool, plane):
        status, headers, body = plane.refusal()
        assert (status, headers) == (429, {REASON: "rejected-saturated"})
        assert body.startswith(b"inference error: ResourceExhausted - ")
        decision = pool.decisions()[0]
        assert (decision.outcome, decision.status) == ("refused", 429)
        assert decision.dropped_reason == "rejected-saturated"
        assert decision.endpoints == []


@pytest.mark.parametrize("status", [429, 503])
def test_who_waits_too_long_is_refused(status: int) -> None:
    with controlled(ttl_status=status) as (_, plane):
        first = placed(plane)
        seen, headers, _ = plane.refusal(headers={"x-llm-d-inference-ttl": "20ms"})
        assert (seen, headers) == (status, {REASON: "rejected-ttl-expired"})
        first.cancel()


def test_the_configured_time_to_live_counts_where_a_request_has_none() -> None:
    with controlled(queue_ttl="20ms") as (_, plane):
        first = placed(plane)
        for ttl in ("", "soon", "0s"):
            assert plane.refusal(headers={"x-llm-d-inference-ttl": ttl})[0] == 429
        first.cancel()


def test_a_picker_that_drains_refuses_what_waits_and_what_comes() -> None:
    with controlled() as (pool, plane):
        first = placed(plane)
        waiting = queued(pool, plane, {})
        pool.drain_picker()
        message = waiting.receive()
        assert message is not None
        assert message.immediate_response.status.code == 503
        assert plane.refusal()[:2] == (503, {REASON: "rejected-shutting-down"})
        first.send_response(200, {}, [b"{}"], served="x")
        assert len(first.finish()) == 2
        pool.start_picker()
        plane.pick()


def test_who_gives_up_waiting_leaves_the_queue() -> None:
    with controlled() as (pool, plane):
        first = placed(plane)
        queued(pool, plane, {}).cancel()
        while pool.waiting_in_picker():
            pass
        first.cancel()
        plane.pick()
        assert pool.decisions()[1].outcome == "abandoned"


@pytest.mark.parametrize("reason", ["evicted", "evicted-priority", "evicted-queue-pressure"])
def test_lower_priority_work_under_way_makes_room(reason: str) -> None:
    with controlled(eviction=reason) as (pool, plane):
        batch = placed(plane, **BATCH)
        urgent = plane.call()
        urgent.send_request(headers=INTERACTIVE)
        message = batch.receive()
        assert message is not None
        immediate = message.immediate_response
        assert immediate.status.code == 429
        assert set_headers(immediate.headers) == {REASON: reason}
        assert batch.receive() is None
        urgent.receive_pick()
        assert pool.decisions()[0].outcome == "evicted"
        assert pool.decisions()[0].dropped_reason == reason
        urgent.cancel()


def test_a_request_is_evicted_between_parts_of_its_response() -> None:
    with controlled(eviction="evicted") as (pool, plane):
        batch = placed(plane, **BATCH)
        events = {"content-type": "text/event-stream"}
        batch.send_response(200, events, [b"data: 1\n\n"], served="x", end=False)
        for part in ("response_headers", "response_body"):
            message = batch.receive()
            assert message is not None
            assert message.WhichOneof("response") == part
        urgent = plane.call()
        urgent.send_request(headers=INTERACTIVE)
        message = batch.receive()
        assert message is not None
        assert message.immediate_response.status.code == 429
        assert pool.decisions()[0].outcome == "evicted"
        urgent.receive_pick()
        urgent.cancel()


def test_without_flow_control_sheddable_work_is_refused_while_the_pods_are_full() -> None:
    slow = SimulatorConfig(seats=1, output_tokens=1_000, output_distribution="fixed")
    with simulated_pool(1, slow, objectives=PRIORITIES) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(queue_depth_threshold=1)
        plane.pick(headers=BATCH)
        with busy(pool, 2):
            status, headers, body = plane.refusal(headers=BATCH)
            assert (status, headers) == (429, {})
            assert body == (
                b"inference error: ResourceExhausted - system saturated, sheddable request dropped"
            )
            plane.pick()
        plane.pick(headers=BATCH)


def test_the_queue_is_fair_between_tenants() -> None:
    with controlled() as (pool, plane):
        first = placed(plane)
        calls: dict[str, Call] = {}
        for name in ("a1", "a2", "a3", "b1"):
            header = (
                "x-llm-d-inference-fairness-id"
                if name < "b"
                else ("x-gateway-inference-fairness-id")
            )
            calls[name] = queued(pool, plane, {"x-request-id": name, header: name[0]})
        first.cancel()
        for name in ("a1", "b1", "a2", "a3"):
            calls[name].receive_pick()
            calls[name].finish()
        order = sorted(pool.decisions()[1:], key=lambda d: d.picked_at)
        assert [d.request_id for d in order] == ["a1", "b1", "a2", "a3"]
        assert {d.fairness_id for d in order} == {"a", "b"}


def test_the_whole_way_works_under_flow_control() -> None:
    with controlled() as (pool, plane):
        for _ in range(3):
            assert json.loads(plane.carry(CHAT))["choices"]
        assert [d.outcome for d in pool.decisions()] == ["completed"] * 3


def test_newer_routers_refuse_in_json() -> None:
    with controlled(queue_limit=0, error_body="json") as (_, plane):
        status, headers, body = plane.refusal()
        assert status == 429
        assert headers == {REASON: "rejected-saturated", "content-type": "application/json"}
        error = {"message": "request queue is full", "type": "rate_limit_error", "code": 429}
        assert json.loads(body) == {"error": error}


def test_room_is_not_lost_on_requests_that_leave_as_it_comes() -> None:
    with controlled() as (pool, plane):
        for _ in range(10):
            first = placed(plane)
            waiting = [queued(pool, plane, {}) for _ in range(4)]
            for call in [*waiting[:3], first]:
                call.cancel()
            waiting[3].receive_pick()
            waiting[3].finish()
        plane.pick()
        assert pool.waiting_in_picker() == 0


def test_requests_that_are_cancelled_in_the_turn_of_their_dispatch_leave_no_trace() -> None:
    async def main() -> None:
        async with SimulatedPool(1, SimulatorConfig.instant()) as pool:
            pool.configure_picker(flow_control=True, queue_depth_threshold=1)
            gate, chooser = pool.picker.admission, pool.picker.chooser
            request = parse_request({"x-request-id": "r"}, json.dumps(CHAT).encode(), None, {})
            first = await gate.enter(request, 0, "")
            waiting = asyncio.create_task(gate.enter(request, 0, ""))
            await asyncio.sleep(0)
            assert gate.waiting == 1
            waiting.cancel()
            gate.leave(first)
            await asyncio.wait([waiting])
            assert waiting.cancelled()
            assert (gate.waiting, chooser.in_flight(pool.pods[0].address)) == (0, 0)
            gate.leave(await gate.enter(request, 0, ""))

    asyncio.run(main())
