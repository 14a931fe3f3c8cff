"""The client and the request that most tests of endpoint pickers need no other of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batch_gateway import (
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    Observer,
)

__all__ = ["LIMIT_S", "client", "request"]

LIMIT_S = 60.0


def request(**more: Any) -> InferenceRequest:
    return InferenceRequest(
        params=b'{"model":"m","prompt":"Hi"}', model="m", endpoint="/v1/completions", **more
    )


def client(url: str, observers: Sequence[Observer] = (), **settings: Any) -> HTTPInferenceClient:
    return HTTPInferenceClient(
        HTTPInferenceClientConfig(url, **{"retry": None, "timeout": LIMIT_S, **settings}),
        observers=observers,
    )
