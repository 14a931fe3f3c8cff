"""Addresses of pods as an endpoint picker writes them: "ip:port", several with commas between."""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = ["is_endpoint", "parse_endpoints"]

_ENDPOINT = re.compile(
    r"(?:\[[0-9A-Fa-f:.]{2,45}(?:%25[0-9A-Za-z]+)?\]|[0-9A-Za-z.\-_]{1,253}):([0-9]{1,5})"
)


def is_endpoint(text: object) -> bool:
    """Whether it is an address with a port: IPv4 or a name, or IPv6 in brackets."""
    if not isinstance(text, str):
        return False
    found = _ENDPOINT.fullmatch(text)
    return found is not None and 0 < int(found.group(1)) <= 65_535


@lru_cache(maxsize=1024)
def parse_endpoints(text: str) -> tuple[str, ...]:
    """The usable addresses in their order of preference, each once; empty when there are none."""
    found = (part.strip() for part in text.split(","))
    return tuple(dict.fromkeys(part for part in found if is_endpoint(part)))
