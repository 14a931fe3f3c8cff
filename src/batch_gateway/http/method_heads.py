"""Requests by other methods than POST, for whoever asks more of a server than answers."""

from __future__ import annotations

from collections.abc import Sequence

from batch_gateway.http.native import NativeExchanger
from batch_gateway.http.origin_headers import origin_headers
from batch_gateway.http.proxies import ProxyRoute, request_heads
from batch_gateway.http.request_head import RequestHeads
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig

__all__ = ["exchanger_by_method"]

_GET, _POST = "GET ", "POST "


class _Heads:
    """Heads of requests whose path begins with their method."""

    def __init__(self, heads: RequestHeads) -> None:
        self._heads = heads

    def build(self, path: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        if path.startswith(_GET):
            return self._heads.build_get(path.removeprefix(_GET), headers)
        return self._heads.build(path.removeprefix(_POST), headers, length)


def exchanger_by_method(config: TransportConfig) -> NativeExchanger:
    """One whose paths begin with "GET " or "POST ".

    Raises ConfigError when the key, a certificate or the proxy cannot be used.
    """
    target = Target.of(config)
    route = ProxyRoute.of(config, target)
    heads = _Heads(request_heads(target, route, origin_headers(config)))
    return NativeExchanger(config, heads=heads)
