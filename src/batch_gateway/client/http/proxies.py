"""Which HTTP proxy a configuration means, with "env" looked up in the environment."""

from __future__ import annotations

from urllib.parse import urlsplit

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.http.no_proxy import is_exempt
from batch_gateway.client.http.target import Target
from batch_gateway.errors import ConfigError

__all__ = ["proxy_url"]


def proxy_url(config: HTTPInferenceClientConfig) -> str | None:
    """The proxy's URL, perhaps with credentials in it, or None to connect directly.

    "env" means HTTP_PROXY or HTTPS_PROXY by the scheme of the base URL, else ALL_PROXY, in either
    case, unless NO_PROXY names the host. Read here rather than by aiohttp because its `trust_env`
    also takes credentials from ~/.netrc. Raises ConfigError for a proxy that is not an HTTP one;
    the message never shows the URL, which may hold a password.
    """
    if config.proxy != "env":
        return config.proxy
    # A sixth of the time that a command takes to start, for those who use no proxy.
    from urllib.request import getproxies_environment  # noqa: PLC0415

    variables = getproxies_environment()
    scheme = config.url.scheme if variables.get(config.url.scheme) else "all"
    found = variables.get(scheme)
    target = Target.of(config)
    if not found or is_exempt(variables.get("no", ""), target.host, target.port):
        return None
    # Widely written without a scheme, and read as http by other programs.
    url = found if "://" in found else f"http://{found}"
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        variable = f"{scheme.upper()}_PROXY"
        raise ConfigError("proxy", f"{variable} is not the URL of an HTTP proxy")
    return url
