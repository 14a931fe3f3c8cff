"""Which HTTP proxy a configuration means, and how requests to its gateway go through that."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from batch_gateway.errors import InferenceError
from batch_gateway.http.no_proxy import is_exempt
from batch_gateway.http.origin_headers import merge_headers
from batch_gateway.http.proxy_url import Proxy
from batch_gateway.http.request_head import RequestHeads
from batch_gateway.http.target import Target
from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.version import __version__

__all__ = ["ProxyRoute", "proxy_of", "proxy_remark", "request_heads"]


def proxy_of(config: TransportConfig) -> Proxy | None:
    """The proxy to the configuration's gateway, or None to connect directly.

    "env" means HTTP_PROXY or HTTPS_PROXY by the scheme of the base URL, else ALL_PROXY, in either
    case, unless NO_PROXY names the host. Raises ConfigError for a proxy that is not an HTTP one.
    """
    if config.proxy is None:
        return None
    if config.proxy != "env":
        return Proxy.parse(config.proxy)
    # A sixth of the time that a command takes to start, for those who use no proxy.
    from urllib.request import getproxies_environment  # noqa: PLC0415

    variables = getproxies_environment()
    scheme = config.url.scheme if variables.get(config.url.scheme, "").strip() else "all"
    found = variables.get(scheme, "").strip()
    target = Target.of(config)
    if not found or is_exempt(variables.get("no", ""), target.host, target.port):
        return None
    # Widely written without a scheme, and read as http by other programs.
    url = found if "://" in found else f"http://{found}"
    return Proxy.parse(url, f"{scheme.upper()}_PROXY")


@dataclass(frozen=True, slots=True)
class ProxyRoute:
    """The way to one gateway through a proxy.

    To an `https://` gateway that is a tunnel (CONNECT, RFC 9110 §9.3.6), in which TLS is spoken to
    the gateway itself. For an `http://` one each request is the proxy's to pass on, and names its
    whole URL (RFC 9112 §3.2.2).

    Attributes:
        proxy: where it begins.
        context: the TLS of an `https://` proxy, or None.
        opening: the request for the tunnel, or None where there is none.
        gateway: how messages name where it leads.
    """

    proxy: Proxy
    context: ssl.SSLContext | None
    opening: bytes | None
    gateway: str

    @classmethod
    def of(cls, config: TransportConfig, target: Target) -> ProxyRoute | None:
        """None for a gateway that is connected to directly.

        Raises ConfigError for a proxy that is not an HTTP one, or authorities that do not load.
        """
        proxy = proxy_of(config)
        if proxy is None:
            return None
        context = config.tls.proxy_context() if proxy.tls else None
        if context is not None:
            context.set_alpn_protocols(["http/1.1"])
        opening = _opening(proxy, target) if target.tls else None
        return cls(proxy, context, opening, target.name)

    @property
    def first_hop(self) -> str:
        """Who is connected to, for messages."""
        return _first_hop(self.proxy, self.gateway)

    @property
    def peer(self) -> str:
        """Who is at its end, for messages."""
        return f"{self.gateway} through the proxy {self.proxy.address}"


def request_heads(
    target: Target, route: ProxyRoute | None, headers: tuple[tuple[str, str], ...]
) -> RequestHeads:
    """What builds the heads of requests that go by `route`, with `headers` in each of them."""
    if route is None or route.opening is not None:
        return RequestHeads(target.host_header, target.api.target, headers)
    own = merge_headers(_for_proxy(route.proxy), headers)
    return RequestHeads(target.host_header, target.url, own)


def proxy_remark(proxy: Proxy, target: Target, refusal: InferenceError) -> str:
    """What to add to the refusal of a plain request, which may be the proxy's own; or nothing."""
    if refusal.status_code == 407:
        return f"; {_first_hop(proxy, target.name)}: {proxy.credentials_cure()}"
    if refusal.body.lstrip()[:1] not in (b"{", b"["):
        return f"; asked through {_first_hop(proxy, target.name)}"
    return ""


def _first_hop(proxy: Proxy, gateway: str) -> str:
    return f"the proxy for {gateway} at {proxy.address} ({proxy.place})"


def _for_proxy(proxy: Proxy) -> tuple[tuple[str, str], ...]:
    return (("Proxy-Authorization", proxy.authorization),) if proxy.authorization else ()


def _opening(proxy: Proxy, target: Target) -> bytes:
    lines = [f"CONNECT {target.name} HTTP/1.1", f"Host: {target.name}"]
    headers = (("User-Agent", f"batch-gateway/{__version__}"), *_for_proxy(proxy))
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
