"""What callers without a type checker get wrong: each mistake has an error that says what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_gateway import (
    AdaptiveConcurrency,
    BatchGatewayError,
    BlockingInferenceClient,
    CacheConfig,
    CircuitBreakerPolicy,
    CoalescePolicy,
    ConfigError,
    GatewayMetrics,
    Headers,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InvalidRequestError,
    Observer,
    RateLimit,
    RetryPolicy,
    RoutedInferenceClient,
    SchedulingHints,
    TLSConfig,
    determine_endpoint,
    map_status_code_to_category,
)
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.testing import GatewayHandle, simulated_gateway

Config: Any = HTTPInferenceClientConfig


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayHandle]:
    with simulated_gateway() as gateway:
        yield gateway


def chat(**more: Any) -> InferenceRequest:
    messages = [{"role": "user", "content": "Hello!"}]
    return InferenceRequest(params={"model": "m", "messages": messages}, **more)


def as_any(thing: Any) -> Any:
    return thing


_SETTINGS = {
    Config: {"tls", "retry", "cache", "concurrency", "api_key", "api_key_file", "proxy", "headers"}
    | {"unix_socket", "stream_upstream", "endpoint_picker", "base_url", "timeout"},
    TLSConfig: {"ca_file", "minimum_version", "server_name", "insecure_skip_verify"},
    RetryPolicy: {"max_retries", "budget_ratio", "max_backoff"},
    CircuitBreakerPolicy: {"failure_ratio", "after_success", "when_open"},
    CacheConfig: {"path", "max_bytes", "namespace"},
    CoalescePolicy: {"max_requests", "max_wait"},
    RateLimit: {"requests_per_minute", "burst", "learn"},
    AdaptiveConcurrency: {"initial", "worthwhile", "gateway_metrics"},
    GatewayMetrics: {"urls", "interval", "token_file", "max_bytes"},
    SchedulingHints: {"objective", "fairness_id", "send_deadline", "ttl"},
    EndpointPickerConfig: {"endpoint_subset", "authority", "health", "max_pods"},
}


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, names in _SETTINGS.items() for name in sorted(names)]
)
@pytest.mark.parametrize(
    "wrong", [object(), -1, [1], {"a": {}}, b"bytes", Observer], ids=lambda one: type(one).__name__
)
def test_a_setting_of_the_wrong_kind_is_named(kind: Any, name: str, wrong: Any) -> None:
    others: dict[str, Any] = {
        CacheConfig: {"path": "x"},
        CoalescePolicy: {"max_requests": 2},
        GatewayMetrics: {"urls": "http://x"},
    }.get(kind, {})
    with pytest.raises(ConfigError) as caught:
        kind(**{**others, name: wrong})
    assert caught.value.field.split("[")[0].endswith(name)


def test_an_error_about_a_key_does_not_show_it() -> None:
    with pytest.raises(ConfigError) as caught:
        Config(api_key=[b"sk-secret"], base_url="http://x")
    assert "secret" not in str(caught.value)
    assert str(caught.value) == "api_key: must be a string or None, not a list"


CONFIG = HTTPInferenceClientConfig("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: BlockingInferenceClient(as_any(CONFIG)), r"HTTPInferenceClient\(config\)"),
        (lambda: BlockingInferenceClient(as_any(None)), "must be a client, not NoneType"),
        (lambda: BlockingInferenceClient(as_any(HTTPInferenceClient)), "must be a client"),
        (
            lambda: HTTPInferenceClient(as_any(8000)),
            "an HTTPInferenceClientConfig or a string or None",
        ),
        (lambda: HTTPInferenceClient(as_any({"timeout": 5})), "not a dict"),
        (lambda: HTTPInferenceClient(as_any(Config)), "not the class HTTPInferenceClientConfig"),
        (lambda: HTTPInferenceClient(CONFIG, gateway=as_any(5)), "gateway: must be a string"),
        (lambda: HTTPInferenceClient(CONFIG, observers=as_any(Observer())), "observers: .* a list"),
        (lambda: RoutedInferenceClient(as_any("http://x")), "default: "),
        (lambda: RoutedInferenceClient(as_any({"m": CONFIG})), "default: .* not a dict"),
        (lambda: RoutedInferenceClient(None, as_any(["m"])), "model_gateways: must be a mapping"),
        (lambda: RoutedInferenceClient(None, as_any({"m": "http://x"})), r"model_gateways\['m'\]"),
        (lambda: RoutedInferenceClient(None, as_any({5: CONFIG})), "model_gateways: .* a string"),
    ],
)
def test_a_client_of_the_wrong_things_says_what_to_give_it(
    make: Callable[[], object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


@pytest.mark.parametrize("params", [None, "text", b"{}", 5, [1]])
def test_an_endpoint_is_told_from_mappings_alone(params: Any) -> None:
    with pytest.raises(InvalidRequestError, match="params must be a mapping, not"):
        determine_endpoint(params)


@pytest.mark.parametrize("status", [None, "503", 5.5])
def test_a_status_is_a_whole_number(status: Any) -> None:
    with pytest.raises(TypeError, match="a status code is a whole number, not"):
        map_status_code_to_category(status)


@pytest.mark.parametrize("raw", [None, 5, "text", {"a": "b"}, [("a", "b")], [("a",)], [1]])
def test_headers_that_are_no_pairs_of_bytes_point_to_the_other_way(raw: Any) -> None:
    with pytest.raises(TypeError, match=r"write Headers\.of"):
        Headers(raw).get("a")


@pytest.mark.parametrize(
    "request_",
    [
        None,
        "text",
        {"params": {"model": "m", "messages": []}},
        [("model", "m"), ("messages", [])],
        InferenceRequest(params=as_any("text")),
        InferenceRequest(params=as_any(None), model="m"),
        chat(endpoint=5),
        chat(endpoint=["/v1/x"]),
        chat(headers=5),
        chat(headers="x: y"),
        chat(headers=["x: y"]),
    ],
)
@pytest.mark.parametrize("routed", [False, True])
def test_a_request_of_the_wrong_kind_is_an_invalid_request(request_: Any, routed: bool) -> None:
    async def ask() -> None:
        async with RoutedInferenceClient(CONFIG) if routed else HTTPInferenceClient(CONFIG) as to:
            await to.generate(request_)

    with pytest.raises(InvalidRequestError):
        asyncio.run(ask())


@pytest.mark.parametrize("layer", ["cache", "coalesce"])
def test_a_client_says_in_another_loop_that_it_belongs_to_the_first(
    gateway: GatewayHandle, layer: str, tmp_path: Path
) -> None:
    layers: dict[str, Any] = {
        "cache": CacheConfig(tmp_path / "cache.sqlite"),
        "coalesce": CoalescePolicy(2),
    }
    config = Config(gateway.url, **{layer: layers[layer]})
    with asyncio.Runner() as first, asyncio.Runner() as second:
        client = HTTPInferenceClient(config)
        first.run(client.generate(chat()))
        with pytest.raises(InvalidRequestError, match="make a client in each loop"):
            second.run(client.generate(chat()))
        first.run(client.aclose())


def test_a_cache_can_be_closed_after_its_loop(gateway: GatewayHandle, tmp_path: Path) -> None:
    cache = CacheConfig(tmp_path / "cache.sqlite")
    # Without connections that would be left behind with the loop.
    client = HTTPInferenceClient(Config(gateway.url, cache=cache, max_idle_connections=0))
    asyncio.run(client.generate(chat()))
    asyncio.run(client.aclose())

    async def ask_again() -> int:
        async with HTTPInferenceClient(Config(gateway.url, cache=cache)) as client:
            return (await client.generate(chat())).attempts

    assert asyncio.run(ask_again()) == 0


async def _first_chunk(stream: Any) -> object:
    return await anext(stream)


def test_a_stream_is_read_in_one_loop(gateway: GatewayHandle) -> None:
    with asyncio.Runner() as first, asyncio.Runner() as second:
        client = HTTPInferenceClient(Config(gateway.url))
        stream = client.stream(chat())
        first.run(_first_chunk(stream))
        with pytest.raises(InvalidRequestError, match="read in another event loop"):
            second.run(_first_chunk(stream))
        first.run(stream.aclose())
        first.run(client.aclose())


def test_a_stream_has_one_reader_at_a_time(gateway: GatewayHandle) -> None:
    async def read_twice() -> Any:
        async with HTTPInferenceClient(Config(gateway.url)) as client:
            stream = client.stream(chat())
            readers = (_first_chunk(stream), _first_chunk(stream))
            async with asyncio.timeout(10):
                return await asyncio.gather(*readers, return_exceptions=True)

    chunk, refused = asyncio.run(read_twice())
    assert not isinstance(chunk, BaseException)
    assert isinstance(refused, RuntimeError)
    assert "another task is reading this stream" in str(refused)


def test_chunks_are_not_read_after_the_blocking_client(gateway: GatewayHandle) -> None:
    with HTTPInferenceClient(Config(gateway.url)).blocking() as client:
        stream = client.stream(chat())
        next(stream)
    with pytest.raises(RuntimeError, match="which has closed it; make a new client"):
        next(stream)


def test_every_refusal_of_a_setting_is_the_packages_own_and_a_value_error() -> None:
    with pytest.raises(BatchGatewayError) as caught:
        Config(retry={"max_retries": 3})
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == "retry: must be a RetryPolicy or None, not a dict"
