"""The models that a gateway says it has: `GET /v1/models`, as OpenAI lists them."""

from __future__ import annotations

import time

import msgspec

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError, InferenceError
from batch_gateway.http.origin_headers import origin_headers
from batch_gateway.http.target import Target
from batch_gateway.http.watched_page import WatchedPage

__all__ = ["MODELS_PATH", "listed_models"]

MODELS_PATH = "/v1/models"
_MOST_BYTES = 4 * 1024 * 1024
_SECONDS = 5.0


class _Model(msgspec.Struct):
    id: str


class _Listed(msgspec.Struct):
    data: list[_Model]


async def listed_models(config: HTTPInferenceClientConfig) -> list[str]:
    """Their names in the gateway's order; none where it lists none or cannot be asked."""
    if config.uses_endpoint_picker or config.unix_socket is not None:
        return []
    try:
        page = WatchedPage(
            Target.of(config).url(MODELS_PATH),
            config.tls,
            max_bytes=_MOST_BYTES,
            headers=origin_headers(config),
            proxy=config.proxy,
        )
        body = await page.read(deadline=time.monotonic() + _SECONDS)
        return [model.id for model in msgspec.json.decode(body, type=_Listed).data]
    except (InferenceError, ConfigError, msgspec.MsgspecError, UnicodeDecodeError):
        return []
