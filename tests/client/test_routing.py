"""Models on different gateways behind one client."""

from __future__ import annotations

import pytest

from batch_gateway import (
    ConfigError,
    GatewayConnectionError,
    HTTPInferenceClientConfig,
    InferenceRequest,
    InvalidRequestError,
    RoutedInferenceClient,
)
from batch_gateway.testing import simulated_gateway

pytestmark = pytest.mark.anyio


def completion(model: str) -> InferenceRequest:
    return InferenceRequest(params={"model": model, "prompt": "Hello!"})


async def test_each_model_goes_to_its_gateway_and_the_others_to_the_default() -> None:
    with simulated_gateway() as one, simulated_gateway(api_key="sk-second-key") as two:
        routes = {"large": HTTPInferenceClientConfig(two.url, api_key="sk-second-key")}
        async with RoutedInferenceClient(HTTPInferenceClientConfig(one.url), routes) as client:
            await client.generate(completion("large"))
            await client.generate(completion("small"))
            await client.generate(InferenceRequest(params=b'{"model":"large","prompt":"x"}'))
        assert (one.journal()["received"], two.journal()["received"]) == (1, 2)


async def test_equal_gateways_share_one_client() -> None:
    def config(url: str = "http://h:1/") -> HTTPInferenceClientConfig:
        return HTTPInferenceClientConfig(url, headers={"X-A": "1"})

    async with RoutedInferenceClient(
        None, {"a": config(), "b": config("http://h:1"), "c": config("http://h:2")}
    ) as client:
        assert client.client_for("a") is client.client_for("b")
        assert client.client_for("a") is not client.client_for("c")
        assert len(client.clients) == 2


@pytest.mark.parametrize(
    ("model", "gateway"),
    [
        ("llama-8b", "http://h:1"),
        ("llama-70b", "http://h:2"),
        ("llama-70b-lora-7", "http://h:3"),
        ("llama-70b-lora-7\nx", "http://h:3"),
        ("a/llama", "http://h:4"),
        ("[b]?", "http://h:5"),
        ("[b]?!", "http://h:6"),
        ("b?", "http://h:9"),
        ("Llama-8b", "http://h:9"),
        ("", "http://h:9"),
    ],
)
async def test_a_name_comes_before_patterns_and_of_these_the_one_that_spells_out_most(
    model: str, gateway: str
) -> None:
    routes = {
        "llama-*": "http://h:1",
        "llama-70b": "http://h:2",
        "llama-*-lora-*": "http://h:3",
        "*/llama": "http://h:4",
        "[b]?": "http://h:5",
        "[b]?*": "http://h:6",
    }
    configs = {name: HTTPInferenceClientConfig(url) for name, url in routes.items()}
    async with RoutedInferenceClient(HTTPInferenceClientConfig("http://h:9"), configs) as client:
        found = client.client_for(model)
        assert found is not None
        assert found.config.base_url == gateway


@pytest.mark.parametrize("name", ["a" * 30_000, "ab" * 15_000 + "c"])
async def test_a_long_name_is_compared_with_a_pattern_of_many_marks_at_once(name: str) -> None:
    own = HTTPInferenceClientConfig("http://h:1")
    async with RoutedInferenceClient(None, {"*a*b*a*b*a*d": own}) as client:
        assert client.client_for(name) is None


async def test_isolated_models_of_one_pattern_have_a_client_each() -> None:
    own = HTTPInferenceClientConfig("http://h:1")
    isolated = ["llama-1", "llama-2", "other"]
    async with RoutedInferenceClient(None, {"llama-*": own}, isolated_models=isolated) as client:
        one, two, rest = (client.client_for(f"llama-{n}") for n in (1, 2, 3))
        assert len({id(one), id(two), id(rest)}) == 3
        assert client.client_for("other") is None


def test_a_default_beside_a_pattern_that_takes_everything_is_refused() -> None:
    own = HTTPInferenceClientConfig("http://h:1")
    with pytest.raises(ConfigError, match="takes every model, and so does the default"):
        RoutedInferenceClient(own, {"*": own})


async def test_isolated_models_share_their_client_with_no_other() -> None:
    gateway = HTTPInferenceClientConfig("http://h:1")
    own = HTTPInferenceClientConfig("http://h:2")
    isolated = ["a", "b\n" + 200 * "b", "c"]
    async with RoutedInferenceClient(
        gateway, {"c": own, "d": own}, isolated_models=isolated
    ) as client:
        found = [client.client_for(model) for model in (*isolated, "d", "else")]
        assert len({id(one) for one in found}) == 5
        names = [one.events.gateway for one in found if one is not None]
        assert names[0] == "http://h:1 (a)"
        assert names[1].startswith("http://h:1 (b\ufffdbbb")
        assert len(names[1]) < 120
        assert names[2:] == ["http://h:2 (c)", "http://h:2", "http://h:1"]


async def test_a_model_without_a_gateway_is_an_error_of_that_request_alone() -> None:
    with simulated_gateway() as gateway:
        routes = {"known": HTTPInferenceClientConfig(gateway.url)}
        async with RoutedInferenceClient(None, routes) as client:
            with pytest.raises(InvalidRequestError, match="'other'; known: known") as caught:
                await client.generate(completion("other"))
            assert caught.value.code == "model_not_found"
            assert client.client_for("other") is None
            assert (await client.generate(completion("known"))).status_code == 200


async def test_a_sick_gateway_does_not_touch_the_others() -> None:
    with simulated_gateway() as healthy:
        routes = {"sick": HTTPInferenceClientConfig("http://127.0.0.1:1", retry=None)}
        async with RoutedInferenceClient(HTTPInferenceClientConfig(healthy.url), routes) as client:
            with pytest.raises(GatewayConnectionError):
                await client.generate(completion("sick"))
            assert (await client.generate(completion("fine"))).attempts == 1


async def test_no_gateway_at_all_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="give a default gateway"):
        RoutedInferenceClient(None)
