"""Where a gateway's own metrics are, and how often they are looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_count,
    require_kinds,
    require_positive,
    require_readable_file,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError

__all__ = ["GatewayMetrics"]

_URLS = "gateway_metrics.urls"
_EXAMPLE = "http://vllm:8000/metrics"


@dataclass(frozen=True)
class GatewayMetrics:
    """Prometheus pages that say how loaded a gateway is. Raises ConfigError.

    Pages of vLLM, SGLang, and llm-d's or GAIE's endpoint picker are understood. They are reached
    directly, without the gateway's proxy, and get neither its API key nor its headers. A page
    that cannot be read is left out until it can.

    Attributes:
        urls: one, or several where every server has its own; "/metrics" where a URL has no path.
        interval: seconds from one look to the next, while requests are under way.
        timeout: how long a page may take.
        token_file: a file whose first line is sent as a bearer token; read at each look, as
            Kubernetes renews such files.
        max_bytes: a larger page is not read.
    """

    urls: str | Sequence[str]
    interval: Duration = 1.0
    timeout: Duration = 5.0
    token_file: PathLike | None = None
    max_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        require_kinds(self, "gateway_metrics.")
        urls = (self.urls,) if isinstance(self.urls, str) else tuple(self.urls)
        if not urls:
            raise ConfigError(_URLS, f"give at least one, such as {_EXAMPLE}")
        checked = tuple(_checked(url) for url in urls)
        if len(set(checked)) < len(checked):
            raise ConfigError(_URLS, "one is given twice, and would count twice")
        object.__setattr__(self, "urls", checked)
        for name in ("interval", "timeout"):
            normalise_duration(self, name, prefix="gateway_metrics.")
            require_positive(f"gateway_metrics.{name}", seconds(getattr(self, name)))
        require_readable_file("gateway_metrics.token_file", self.token_file)
        require_count("gateway_metrics.max_bytes", self.max_bytes, minimum=1)

    @property
    def pages(self) -> tuple[str, ...]:
        """`urls` in the form they were normalised to."""
        return (self.urls,) if isinstance(self.urls, str) else tuple(self.urls)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(_URLS, f"is not a URL: {error}") from error
    # Before anything that quotes the URL: it may hold a password.
    if "@" in parts.netloc:
        raise ConfigError(
            _URLS, "holds credentials; give a token as gateway_metrics.token_file instead"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigError(_URLS, f"{url!r} is not a URL such as {_EXAMPLE}")
    if not all("!" <= character <= "~" for character in url):
        raise ConfigError(_URLS, f"{url!r} has a space or a character that must be escaped")
    return parts._replace(path=parts.path.rstrip("/") or "/metrics", fragment="").geturl()
