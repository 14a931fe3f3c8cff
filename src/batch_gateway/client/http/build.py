"""Which of the two HTTP transports a configuration gets."""

from __future__ import annotations

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.http.exchange import HTTPExchanger

__all__ = ["build_exchanger"]


def build_exchanger(config: HTTPInferenceClientConfig) -> HTTPExchanger:
    """The transport that `config` asks for.

    Raises ConfigError when it needs an extra that is not installed, or names a key or
    certificate file that does not load.
    """
    if config.uses_aiohttp:
        from batch_gateway.client.http.aiohttp_transport import AiohttpExchanger  # noqa: PLC0415

        return AiohttpExchanger(config)
    from batch_gateway.client.http.native import NativeExchanger  # noqa: PLC0415

    return NativeExchanger(config)
