"""Every oddity and fault that a picker can be asked for, as a data plane meets it."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from batch_gateway.errors import ConfigError
from batch_gateway.simulator.picker.picker_faults import PICKER_FAULTS, parse_picker_fault
from batch_gateway.testing import PoolHandle, simulated_pool
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingResponse
from batch_gateway.wire.ext_proc.names import DESTINATION, LB_NAMESPACE, PROCESS_METHOD
from batch_gateway.wire.http2.frames import GOAWAY, HEADERS, RST_STREAM
from batch_gateway.wire.http2.http2_errors import ErrorCode

from .data_plane import CHAT, Call, DataPlane, data_plane, request_headers, set_headers
from .raw_client import RawClient

REASON = "x-llm-d-request-dropped-reason"


def asked(fault: str, **headers: str) -> dict[str, str]:
    return {"x-simulate-picker-fault": fault, **headers}


def begun(plane: DataPlane, fault: str) -> Call:
    call = plane.call()
    call.send_request(headers=asked(fault))
    return call


def first_answer(plane: DataPlane, fault: str) -> ProcessingResponse:
    call = begun(plane, fault)
    message = call.receive()
    assert message is not None
    call.cancel()
    return message


def status_of(call: Call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        all(iter(call.receive, None))
    call.half_close()
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details() or ""


# -- where it sends requests -------------------------------------------------------------------


def test_dead_endpoints_go_before_the_right_one(pool: PoolHandle, plane: DataPlane) -> None:
    endpoints = plane.pick(headers=asked("dead-first=2")).endpoints
    assert endpoints[:2] == ["127.0.0.1:1", "127.0.0.1:2"]
    assert endpoints[2] in pool.addresses
    for endpoint in endpoints[:2]:
        host, _, port = endpoint.partition(":")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), timeout=5)


def test_all_endpoints_can_be_dead(plane: DataPlane) -> None:
    assert plane.pick(headers=asked("all-dead=3")).endpoints == [
        f"127.0.0.1:{n}" for n in (1, 2, 3)
    ]


def named(message: ProcessingResponse) -> tuple[str | None, str | None]:
    """The endpoint in the header, and in the metadata."""
    headers = set_headers(message.request_headers.response.header_mutation)
    fields = message.dynamic_metadata.fields
    balancer = fields[LB_NAMESPACE].struct_value.fields if LB_NAMESPACE in fields else {}
    in_metadata = balancer[DESTINATION].string_value if DESTINATION in balancer else None
    return headers.get(DESTINATION), in_metadata


def test_an_endpoint_may_be_named_in_one_place_or_nowhere(plane: DataPlane) -> None:
    header, metadata = named(first_answer(plane, "only-header"))
    assert header
    assert metadata is None
    header, metadata = named(first_answer(plane, "only-metadata"))
    assert header is None
    assert metadata
    assert named(first_answer(plane, "no-destination")) == (None, None)


# -- what it changes ---------------------------------------------------------------------------


def test_a_path_is_changed(plane: DataPlane) -> None:
    assert plane.pick(headers=asked("path=/v2/x?y=z")).headers[":path"] == "/v2/x?y=z"


def test_headers_are_set_and_removed(plane: DataPlane) -> None:
    picked = plane.pick(headers=asked("set-header=x-prefiller-host-port:10.0.0.1:80"))
    assert picked.headers["x-prefiller-host-port"] == "10.0.0.1:80"
    mutation = first_answer(plane, "remove-header=x-secret").request_headers.response
    assert list(mutation.header_mutation.remove_headers) == ["x-secret"]


def test_a_body_grows_over_many_messages(plane: DataPlane) -> None:
    picked = plane.pick(headers=asked("grow-body=5000000"))
    assert json.loads(picked.body) == {**CHAT, "user": "x" * 5_000_000}
    assert picked.headers["content-length"] == str(len(picked.body))


def test_a_body_comes_in_small_chunks(pool: PoolHandle, plane: DataPlane) -> None:
    assert json.loads(plane.pick(headers=asked("small-chunks=7")).body) == CHAT
    sent = [m for m in pool.decisions()[0].messages if m.sender == "picker"]
    sizes = [m.size for m in sent if m.kind == "request_body"]
    assert set(sizes[:-1]) == {7}


def test_a_picker_may_know_only_the_old_headers() -> None:
    with simulated_pool(pods=1, objectives={"b": -1}) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(faults={"old-headers": 1.0})
        plane.pick(headers={"x-llm-d-inference-objective": "b"})
        plane.pick(headers={"x-gateway-inference-objective": "b"})
        assert [d.priority for d in pool.decisions()] == [0, -1]


# -- the lightweight picker --------------------------------------------------------------------


def test_the_lightweight_picker_answers_every_message_of_a_body_unread(
    pool: PoolHandle, plane: DataPlane
) -> None:
    call = plane.call()
    call.send_request(b"not even json, but long", headers=asked("lightweight"), chunk=10)
    kinds: list[str | None] = []
    messages: list[ProcessingResponse] = []
    for _ in range(4):
        message = call.receive()
        assert message is not None
        messages.append(message)
        kinds.append(message.WhichOneof("response"))
    assert kinds == ["request_body", "request_body", "request_headers", "request_body"]
    assert not messages[0].request_body.response.HasField("body_mutation")
    endpoint = set_headers(messages[2].request_headers.response.header_mutation)[DESTINATION]
    assert endpoint in pool.addresses
    call.send_response(200, {}, [b"a", b"b"], served=endpoint)
    headers, *bodies = call.finish()
    echoed = set_headers(headers.response_headers.response.header_mutation)
    assert echoed["x-conformance-test-served-endpoint"] == endpoint
    assert [b.response_body.response.HasField("body_mutation") for b in bodies] == [False] * 2
    assert pool.decisions()[0].outcome == "completed"


def test_the_lightweight_picker_reports_errors_as_grpc_statuses(
    pool: PoolHandle, plane: DataPlane
) -> None:
    call = plane.call()
    call.send_request(headers=asked("lightweight"), subset=["10.0.0.1:80"])
    code, details = status_of(call)
    assert code is grpc.StatusCode.INTERNAL
    assert details.endswith("no pods available")
    large = plane.call()
    large.send_request({**CHAT, "user": "x" * 11_000_000}, headers=asked("lightweight"))
    assert status_of(large)[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert pool.decisions()[1].outcome == "failed"


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "reason", "body"),
    [
        ("saturated", 429, "rejected-saturated", "ResourceExhausted - "),
        ("ttl-expired", 429, "rejected-ttl-expired", "ResourceExhausted - "),
        ("no-endpoints", 503, "rejected-no-endpoints", "ServiceUnavailable - "),
        ("shutting-down", 503, "rejected-shutting-down", "ServiceUnavailable - "),
        ("shed", 429, None, "system saturated, sheddable request dropped"),
        ("admission-refused", 500, None, "request cannot be admitted"),
        ("parse-error", 400, None, "BadRequest - "),
        ("status-418", 418, None, "status 418"),
    ],
)
def test_a_refusal_is_a_final_answer(
    plane: DataPlane, fault: str, status: int, reason: str | None, body: str
) -> None:
    seen, headers, text = plane.refusal(headers=asked(fault))
    assert (seen, headers.get(REASON)) == (status, reason)
    assert text.startswith(b"inference error: ")
    assert body.encode() in text


def test_a_request_is_evicted_while_it_is_under_way(pool: PoolHandle, plane: DataPlane) -> None:
    call = begun(plane, "evict;after=0.01;reason=evicted-priority")
    call.receive_pick()
    message = call.receive()
    assert message is not None
    assert message.immediate_response.status.code == 429
    assert set_headers(message.immediate_response.headers) == {REASON: "evicted-priority"}
    assert call.receive() is None
    assert pool.decisions()[0].outcome == "evicted"


def test_a_request_whose_response_is_complete_is_not_evicted(plane: DataPlane) -> None:
    call = begun(plane, "evict;after=30")
    call.receive_pick()
    call.send_response(200, {}, [b"{}"], served="x")
    assert [m.WhichOneof("response") for m in call.finish()] == [
        "response_headers",
        "response_body",
    ]


# -- ends before their time --------------------------------------------------------------------


def test_a_stream_may_end_with_ok_behind_the_answer(pool: PoolHandle, plane: DataPlane) -> None:
    call = begun(plane, "early-close")
    call.receive_pick()
    assert call.receive() is None
    assert pool.decisions()[0].outcome == "unreported"


def test_a_response_may_never_be_answered(pool: PoolHandle, plane: DataPlane) -> None:
    call = begun(plane, "silent-response")
    call.receive_pick()
    call.send_response(200, {}, [b"{}"], served="x")
    assert call.finish() == []
    assert pool.decisions()[0].outcome == "completed"


def test_a_pick_may_take_its_time_or_for_ever(pool: PoolHandle, plane: DataPlane) -> None:
    plane.pick(headers=asked("slow-pick=0.02"))
    slow = pool.decisions()[0]
    assert slow.picked_at - slow.received_at > 0.015
    call = begun(plane, "hang")
    while len(pool.decisions()) < 2 or not pool.decisions()[1].received_at:
        pass
    call.cancel()
    while not pool.decisions()[1].outcome:
        pass
    assert pool.decisions()[1].outcome == "abandoned"


@pytest.mark.parametrize("moment", ["start", "picked", "response"])
@pytest.mark.parametrize("fault", ["grpc-status=8", "close", "reset-stream", "reset-connection"])
def test_a_call_ends_early_at_the_moment_that_was_asked_for(
    pool: PoolHandle, plane: DataPlane, fault: str, moment: str
) -> None:
    call = begun(plane, f"{fault};at={moment}")
    # grpcio drops what it has not handed over yet when a reset comes.
    if moment == "response" or (moment == "picked" and not fault.startswith("reset")):
        call.receive_pick()
    if moment == "response":
        call.send_response(200, {}, [b"{}"], served="x")
    if fault == "close":
        assert call.receive() is None
        call.half_close()
    else:
        code, _ = status_of(call)
        assert code in {
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.INTERNAL,
            grpc.StatusCode.UNAVAILABLE,
        }
    decision = pool.decisions()[0]
    assert decision.outcome == "failed"
    assert bool(decision.picked_at) == (moment != "start")
    assert bool(decision.response_at) == (moment == "response")
    if fault == "reset-connection":
        # On a busy machine grpcio may give the next call to the connection that is gone.
        with contextlib.suppress(grpc.RpcError):
            plane.pick()
    plane.pick()


@contextmanager
def raw_stream(pool: PoolHandle, fault: str) -> Iterator[RawClient]:
    """A connection with one stream that asks for the fault."""
    headers = request_headers(asked(fault)).SerializeToString()
    with RawClient.to(int(pool.url.rpartition(":")[2])) as client:
        client.begin(1, PROCESS_METHOD)
        client.send(1, struct.pack("!BL", 0, len(headers)) + headers)
        yield client


def test_a_reset_stream_has_no_status(pool: PoolHandle) -> None:
    with raw_stream(pool, "reset-stream=7") as client:
        frames = client.receive_until(RST_STREAM)
    assert frames[-1].payload == bytes((0, 0, 0, ErrorCode.REFUSED_STREAM))
    assert not [frame for frame in frames if frame.kind == HEADERS]


def test_a_connection_is_reset_at_once(pool: PoolHandle) -> None:
    with raw_stream(pool, "reset-connection") as client, pytest.raises(ConnectionResetError):
        client.receive_until(GOAWAY)


def test_goaway_lets_the_call_go_on(pool: PoolHandle, plane: DataPlane) -> None:
    with raw_stream(pool, "goaway=11") as client:
        frames = client.receive_until(GOAWAY)
    assert frames[-1].payload == bytes((0, 0, 0, 1, 0, 0, 0, ErrorCode.ENHANCE_YOUR_CALM))
    call = begun(plane, "goaway;at=picked")
    call.receive_pick()
    call.send_response(200, {}, [b"{}"], served="x")
    assert len(call.finish()) == 2


# -- asking ------------------------------------------------------------------------------------


def test_a_fault_is_met_only_so_often(plane: DataPlane) -> None:
    headers = asked("saturated;times=2", **{"x-request-id": "r-1"})
    assert [plane.refusal(headers=headers)[0] for _ in range(2)] == [429, 429]
    plane.pick(headers=headers)


@pytest.mark.parametrize(
    ("model", "status"),
    [("picker-fault-no-endpoints", 503), ("picker-fault-status-404", 404)],
)
def test_a_model_name_asks_for_a_fault(plane: DataPlane, model: str, status: int) -> None:
    assert plane.refusal({**CHAT, "model": model})[0] == status


def test_a_model_name_may_have_an_argument(plane: DataPlane) -> None:
    assert len(plane.pick({**CHAT, "model": "picker-fault-dead-first-3"}).endpoints) == 4


def test_chance_asks_for_faults_again_with_the_same_ids() -> None:
    def refused() -> list[str]:
        with simulated_pool(pods=1) as pool, data_plane(pool.url) as plane:
            pool.configure_picker(faults={"saturated": 0.3})
            for number in range(40):
                call = plane.call()
                call.send_request(headers={"x-request-id": f"r-{number}"})
                call.finish()
            return [d.request_id for d in pool.decisions() if d.outcome == "refused"]

    first = refused()
    assert 3 < len(first) < 25
    assert refused() == first


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("nonsense", "there is no picker fault 'nonsense'; there are status-NNN, dead-first"),
        ("hang=1", "the picker fault 'hang' takes no argument, got '1'"),
        ("slow-pick=long", "the picker fault slow-pick='long' is not slow-pick=SECONDS"),
        ("dead-first=-1", "the picker fault dead-first='-1' is not dead-first=N"),
        ("hang;at=start", "the picker fault 'hang' has its own time; it takes no at="),
        ("close;at=noon", "at='noon' is not one of start, picked, response"),
        ("close;colour=red", "there is no picker fault option 'colour'; there are after, at"),
        ("close;times=1.5", "times='1.5' is not a whole number"),
        ("close;after=soon", "after='soon' is not a number"),
        ("set-header=x", "the picker fault set-header='x' is not set-header=NAME:VALUE"),
    ],
)
def test_a_fault_that_does_not_exist_is_refused_with_what_is_wrong(
    plane: DataPlane, spec: str, problem: str
) -> None:
    status, _, body = plane.refusal(headers=asked(spec))
    assert status == 400
    assert problem in body.decode()
    with pytest.raises(ConfigError, match="^faults: "):
        simulated_pool_config(spec)


def simulated_pool_config(spec: str) -> None:
    from batch_gateway.testing import PickerConfig

    PickerConfig(faults={spec: 0.5})


@pytest.mark.parametrize("name", PICKER_FAULTS)
def test_every_fault_can_be_asked_for_without_an_argument(name: str) -> None:
    assert parse_picker_fault(name).name == name
