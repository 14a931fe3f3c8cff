"""That there is one transport, and what is said to whoever still asks for another."""

from __future__ import annotations

from dataclasses import replace

import pytest

from batch_gateway.client.build import build_exchanger
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"transport": "native"},
        {"transport": "auto"},
        {"proxy": "http://127.0.0.1:3128"},
        {"proxy": "env"},
    ],
)
def test_there_is_one_transport(settings: dict[str, str]) -> None:
    config = HTTPInferenceClientConfig(**settings)  # pyright: ignore
    assert type(build_exchanger(config)).__name__ == "NativeExchanger"
    # It is not a setting any more, so that its names make no pools of their own.
    assert config == replace(config, timeout="300s")
    assert config == HTTPInferenceClientConfig(proxy=settings.get("proxy"))


def test_the_transport_that_there_was_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        ConfigError, match="no aiohttp any more.*: leave this setting out"
    ) as caught:
        HTTPInferenceClientConfig(transport="aiohttp")
    assert caught.value.field == "transport"
