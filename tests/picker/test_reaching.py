"""Before a request: what may be configured, and whether the picker is there and well."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest

from batch_gateway import (
    ConfigError,
    EndpointPickerConfig,
    GatewayConnectionError,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    ServerError,
)
from tests.picker.scripted_picker import Talk, scripted_picker

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


async def no_questions(talk: Talk) -> None:
    raise AssertionError("nothing was to be asked")


def client(url: str, **settings: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(HTTPInferenceClientConfig(url, **settings))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "health",
    [
        None,
        {"readiness": SERVING, "liveness": SERVING, "": SERVING},
        {"": SERVING},
        {"readiness": SERVICE_UNKNOWN, "": SERVING},
        {"liveness": SERVING},
    ],
)
async def test_a_picker_that_serves_or_has_no_health_service_is_well(
    health: dict[str, int] | None,
) -> None:
    async with scripted_picker(no_questions, health=health) as picker, client(picker.url) as one:
        await one.connect()


@pytest.mark.anyio
async def test_a_picker_that_is_not_ready_is_said_to_be_so() -> None:
    health = {"readiness": NOT_SERVING, "": SERVING}
    async with scripted_picker(no_questions, health=health) as picker, client(picker.url) as one:
        with pytest.raises(ServerError, match="says that it is not serving") as caught:
            await one.connect()
        assert f"127.0.0.1:{picker.port}" in caught.value.message
        assert caught.value.code == "not_serving"
        picker.health = {"readiness": SERVING}
        await one.connect()


@pytest.mark.anyio
async def test_health_may_be_asked_at_an_address_of_its_own() -> None:
    async with (
        scripted_picker(no_questions) as picker,
        scripted_picker(no_questions, health={"readiness": NOT_SERVING}) as health,
        client(picker.url, endpoint_picker=EndpointPickerConfig(health=health.url)) as one,
    ):
        with pytest.raises(ServerError, match=f"127.0.0.1:{health.port} says that"):
            await one.connect()
    async with (
        scripted_picker(no_questions) as picker,
        client(picker.url, endpoint_picker=EndpointPickerConfig(health=picker.url)) as one,
    ):
        with pytest.raises(ServerError, match="has no health service"):
            await one.connect()


@pytest.mark.anyio
async def test_a_picker_that_is_not_there_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with client(f"grpc://127.0.0.1:{port}") as one:
        with pytest.raises(GatewayConnectionError, match="connection refused"):
            await one.connect()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"proxy": "http://proxy:3128"}, "proxy: an endpoint picker and its pods"),
        ({"unix_socket": "/tmp/s"}, "unix_socket: an endpoint picker"),
    ],
)
def test_what_an_endpoint_picker_has_no_use_for_is_refused(
    settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        HTTPInferenceClientConfig("grpc://picker:9002", **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"endpoint_subset": "10.0.0.1:80"}, "is a list of pods"),
        ({"endpoint_subset": ["10.0.0.1"]}, "'10.0.0.1' is not of the form ip:port"),
        ({"endpoint_subset": ["::1:80"]}, "is not of the form"),
        ({"endpoint_subset": ["10.0.0.1:70000"]}, "is not of the form"),
        ({"pick_timeout": 0}, "pick_timeout: must be more than zero"),
        ({"echo_timeout": "soon"}, "echo_timeout: "),
        ({"max_pods": 0}, "max_pods: "),
        ({"authority": "a b"}, "authority: 'a b' is not a host name"),
        ({"health": "http://picker:9003"}, "health: 'http://picker:9003' is not a URL"),
        ({"health": "grpc://picker"}, "health: "),
        ({"health": "grpc://picker:x"}, "health: "),
        ({"health": "grpc://u:secret@picker:1"}, "health: holds credentials"),
        ({"health": "grpc://picker:9003/x"}, "must end behind the port"),
    ],
)
def test_an_impossible_setting_is_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        EndpointPickerConfig(**settings)
    assert caught.value.field.startswith("endpoint_picker.")
    assert "secret" not in str(caught.value)


def test_settings_are_normalised_so_that_configurations_can_be_compared() -> None:
    one = EndpointPickerConfig(endpoint_subset=["[::1]:80"], pick_timeout="2m")
    assert one == EndpointPickerConfig(endpoint_subset=("[::1]:80",), pick_timeout=120)
    assert hash(HTTPInferenceClientConfig("grpc://picker", endpoint_picker=one))


@pytest.mark.parametrize("missing", ["google.protobuf", "hpack"])
def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.startswith(("batch_gateway.picker.e", "batch_gateway.grpc")):
            monkeypatch.delitem(sys.modules, name)
        if name.startswith(("batch_gateway.wire.ext_proc", missing)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match=r"pip install 'batch-gateway\[grpc\]'"):
        client("grpc://picker:9002")
