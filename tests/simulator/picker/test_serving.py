"""The picker's ports: TLS, health, limits of connections, and what is not gRPC."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import grpc
import pytest
from hpack import Decoder
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import ConfigError
from batch_gateway.simulator.picker.rpc.response_blocks import trailers
from batch_gateway.testing import PickerConfig, PoolHandle, simulated_pool
from batch_gateway.wire.ext_proc.messages_pb2 import HealthCheckRequest, HealthCheckResponse
from batch_gateway.wire.ext_proc.names import HEALTH_METHOD, PROCESS_METHOD
from batch_gateway.wire.http2.frames import (
    CONTINUATION,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    ping_ack,
    read_goaway,
)
from batch_gateway.wire.http2.grpc_messages import prefixed
from batch_gateway.wire.http2.http2_errors import ErrorCode
from batch_gateway.wire.http2.settings import (
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    read_settings,
    settings_frame,
)
from tests.http.behaviour.self_signed import SelfSigned

from .data_plane import CHAT, DataPlane, data_plane
from .raw_client import RawClient, frames_in

STATUS = HealthCheckResponse.ServingStatus


def check(port: int | str, service: str) -> str:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(
            HEALTH_METHOD,
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        answer = method(HealthCheckRequest(service=service), timeout=10)
    return STATUS.Name(answer.status)


def port_of(pool: PoolHandle) -> str:
    return pool.url.rpartition(":")[2]


def test_health_has_a_port_of_its_own() -> None:
    with simulated_pool(pods=1, health_port=0) as pool:
        assert pool.health_port is not None
        services = ("", "liveness", "readiness", "another")
        assert [check(pool.health_port, service) for service in services] == [
            *["SERVING"] * 3,
            "SERVICE_UNKNOWN",
        ]
        pool.withdraw(0)
        assert check(pool.health_port, "readiness") == "NOT_SERVING"
        assert check(pool.health_port, "liveness") == "SERVING"


def test_a_picker_that_drains_is_not_ready() -> None:
    with simulated_pool(pods=1, health_port=0) as pool:
        pool.drain_picker()
        assert pool.health_port is not None
        assert check(pool.health_port, "") == "NOT_SERVING"


def test_health_is_on_the_pickers_port_only_when_asked_for() -> None:
    with simulated_pool(pods=1) as pool:
        with pytest.raises(grpc.RpcError) as caught:
            check(port_of(pool), "")
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        pool.configure_picker(health_on_picker_port=True)
        assert check(port_of(pool), "") == "SERVING"


def test_a_certificate_without_a_name_serves_http2_over_tls(tmp_path: Path) -> None:
    mine = SelfSigned(tmp_path)
    certificate, key = mine.certificate_file, mine.key_file
    config = PickerConfig(tls_certificate=certificate, tls_key=key)
    with simulated_pool(pods=1, picker=config, health_port=0) as pool:
        assert pool.url.startswith("grpcs://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(certificate))
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        address = ("127.0.0.1", int(port_of(pool)))
        with (
            socket.create_connection(address, timeout=10) as plain,
            context.wrap_socket(plain) as secured,
        ):
            assert secured.selected_alpn_protocol() == "h2"
            assert RawClient(secured).receive().kind == SETTINGS
        # As in the real one, the port of the health stays in the clear.
        assert check(pool.health_port or 0, "") == "SERVING"


def test_certificates_cannot_change_while_it_runs(pool: PoolHandle) -> None:
    with pytest.raises(ConfigError, match="tls_key: cannot change while the picker runs"):
        pool.configure_picker(tls_key="k")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"choice": "best"}, "choice: 'best' is not one of least-loaded, prefix"),
        ({"fallbacks": -1}, "fallbacks: -1 is not a whole number of at least 0"),
        ({"ttl_status": 500}, "ttl_status: 500 is not 429 or 503"),
        ({"kv_cache_threshold": 0}, "kv_cache_threshold: must be more than 0"),
        ({"eviction": "bored"}, "eviction: 'bored' is not one of evicted"),
        ({"queue_ttl": "soon"}, "queue_ttl: "),
        ({"max_concurrent_streams": 0}, "max_concurrent_streams: 0 is not a whole number"),
        ({"tls_key": "nowhere"}, "tls_key: nowhere is not a file"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PickerConfig(**settings)  # pyright: ignore[reportArgumentType]
    assert str(caught.value).startswith(problem)
    with pytest.raises(ConfigError, match="colour: is not a setting of the simulated picker"):
        PickerConfig().with_changes(colour="red")


def test_streams_beyond_the_limit_are_refused(pool: PoolHandle) -> None:
    pool.configure_picker(max_concurrent_streams=2)
    with RawClient.to(int(port_of(pool))) as client:
        for stream in (1, 3, 5):
            client.begin(stream, PROCESS_METHOD)
        frames = client.receive_until(RST_STREAM)
    assert dict(read_settings(frames[0].payload))[MAX_CONCURRENT_STREAMS] == 2
    assert frames[-1].stream_id == 5
    assert frames[-1].payload == bytes((0, 0, 0, ErrorCode.REFUSED_STREAM))


def test_a_connection_is_sent_away_after_so_many_streams() -> None:
    with simulated_pool(pods=1) as pool, data_plane(pool.url) as plane:
        pool.configure_picker(max_connection_streams=3)
        for _ in range(7):
            plane.pick()
        # grpcio opens a new connection after each third stream.
        assert pool.connections() <= 1
        assert len(pool.decisions()) == 7


def test_a_call_under_way_outlives_its_connections_age() -> None:
    with simulated_pool(pods=1) as pool:
        pool.configure_picker(max_connection_age="50ms")
        with data_plane(pool.url) as plane:
            call = plane.call()
            call.send_request()
            call.receive_pick()
            # Those that come after do not age, so that there is one to come to.
            pool.configure_picker(max_connection_age=None)
            while pool.connections() < 2:
                plane.pick()
            call.send_response(200, {}, [b"{}"], served="x")
            assert len(call.finish()) == 2


def test_a_call_that_was_on_its_way_to_who_sends_its_client_away_is_served(
    pool: PoolHandle,
) -> None:
    pool.configure_picker(max_connection_streams=1, health_on_picker_port=True)
    question = prefixed(HealthCheckRequest().SerializeToString())
    with RawClient.to(int(port_of(pool))) as client:
        client.begin(1, HEALTH_METHOD)
        first, ping = client.receive_until(PING)[-2:]
        assert (first.kind, read_goaway(first.payload)[:2]) == (GOAWAY, (2**31 - 1, 0))
        client.begin(3, HEALTH_METHOD)
        for stream in (1, 3):
            client.send(stream, question, end=True)
            assert client.receive_data().stream_id == stream
        client.begin(5, HEALTH_METHOD)
        client.sock.sendall(ping_ack(ping.payload))
        client.begin(7, HEALTH_METHOD)
        last = client.receive_until(GOAWAY)[-1]
        assert read_goaway(last.payload)[:2] == (5, 0)
        assert client.receive_until(RST_STREAM)[-1].stream_id == 7
        client.send(5, question, end=True)
        assert client.receive_data().stream_id == 5


def test_who_is_sent_away_finishes_and_comes_back(pool: PoolHandle, plane: DataPlane) -> None:
    call = plane.call()
    call.send_request()
    call.receive_pick()
    pool.send_away()
    plane.pick()
    call.send_response(200, {}, [b"{}"], served="x")
    assert len(call.finish()) == 2


def test_a_picker_that_went_away_comes_back_on_its_port(pool: PoolHandle, plane: DataPlane) -> None:
    call = plane.call()
    call.send_request()
    call.receive_pick()
    pool.stop_picker()
    with pytest.raises(grpc.RpcError):
        call.receive()
    assert pool.decisions()[0].outcome == "abandoned"
    pool.start_picker()
    with data_plane(pool.url) as again:
        again.pick()


def test_large_bodies_pass_in_both_directions(plane: DataPlane) -> None:
    body = {**CHAT, "user": "x" * 9_000_000}
    call = plane.call()
    call.send_request(body, chunk=3_000_000)
    assert len(call.receive_pick().body) > 9_000_000
    call.send_response(200, {}, [b"y" * 3_000_000] * 3, served="x")
    echoed = call.finish()[1:]
    assert sum(len(m.response_body.response.body_mutation.streamed_response.body) for m in echoed)


def test_a_message_over_4_mib_is_refused(pool: PoolHandle, plane: DataPlane) -> None:
    call = plane.call()
    call.send_request({**CHAT, "user": "x" * 5_000_000}, chunk=6_000_000)
    with pytest.raises(grpc.RpcError) as caught:
        call.receive()
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "received message larger than max" in (caught.value.details() or "")
    assert pool.decisions()[0].outcome == "failed"


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        PREFACE + b"\xff" * 9,
        PREFACE + frame(SETTINGS, 0, 0, b"abc"),
        PREFACE + frame(CONTINUATION, 0, 1, b""),
        PREFACE + frame(HEADERS, 4, 2, b"\x88"),
        PREFACE + frame(HEADERS, 4, 1, b"\xff\xff\xff\xff\xff"),
        PREFACE + frame(HEADERS, 8, 1, b""),
        PREFACE + frame(WINDOW_UPDATE, 0, 0, b""),
        PREFACE + frame(RST_STREAM, 0, 1, b"123"),
        PREFACE + frame(HEADERS, 0x20, 1, b"1234"),
        PREFACE + settings_frame([(MAX_FRAME_SIZE, 0)]),
        PREFACE + settings_frame([(INITIAL_WINDOW_SIZE, 2**31)]),
        PREFACE + frame(HEADERS, 0, 1, b"") + frame(PING, 0, 0, b"12345678"),
    ],
)
def test_what_is_not_http2_ends_in_goaway(pool: PoolHandle, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(port_of(pool))), timeout=10) as sock:
        sock.sendall(sent)
        received = b""
        while data := sock.recv(1_000):
            received += data
    assert frames_in(received)[-1].kind == GOAWAY


@given(st.text(max_size=300))
def test_a_status_message_survives_its_way(message: str) -> None:
    block = trailers(13, message, alone=True)
    headers = dict(Decoder().decode(block, raw=True))
    assert headers[b"grpc-status"] == b"13"
    assert unquote(headers[b"grpc-message"]) == message


def test_without_the_extra_it_says_what_to_install() -> None:
    script = """
import sys
sys.modules["hpack"] = sys.modules["google.protobuf"] = None
from batch_gateway.testing import simulated_gateway, simulated_pool
with simulated_gateway():
    pass
try:
    with simulated_pool():
        pass
except ValueError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == (
        "picker: the simulated picker needs hpack and protobuf: pip install 'batch-gateway[grpc]'\n"
    )
    assert done.stderr == ""


def test_a_health_port_that_is_taken_leaves_nothing_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match="in use"),
            simulated_pool(pods=1, health_port=port),
        ):
            pass
