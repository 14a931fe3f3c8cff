"""The headers that every request to a gateway carries."""

from __future__ import annotations

from batch_gateway.http.transport_config import TransportConfig
from batch_gateway.version import __version__

__all__ = ["merge_headers", "origin_headers"]

Pairs = tuple[tuple[str, str], ...]


def origin_headers(config: TransportConfig) -> Pairs:
    """User agent, content types and the API key, with the configuration's own headers on top.

    Raises ConfigError when the API key's file or variable cannot be read.
    """
    pairs: list[tuple[str, str]] = [
        ("User-Agent", f"batch-gateway/{__version__}"),
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
    ]
    key = config.resolved_api_key()
    if key is not None:
        own = config.api_key_header
        pairs.append(("Authorization", f"Bearer {key}") if own is None else (own, key))
    return merge_headers(tuple(pairs), config.header_pairs())


def merge_headers(base: Pairs, over: Pairs) -> Pairs:
    """`base` without the names that `over` sets, then `over`."""
    if not over:
        return base
    replaced = {name.lower() for name, _ in over}
    return (*(pair for pair in base if pair[0].lower() not in replaced), *over)
