"""Other spellings of an endpoint, and the paths that are taken beside those of OpenAI."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final
from urllib.parse import urlsplit

from batch_gateway.wire.lines import BATCH_ENDPOINTS, OTHER_ENDPOINTS

__all__ = ["same_endpoint"]

_VERSION: Final = "/v1"


def same_endpoint(url: str, hosts: Collection[str], paths: Collection[str]) -> str | None:
    """The endpoint that is written as `url`; None where it is none.

    Without its slash or its version, with a slash at the end, or as a full URL of one of `hosts`,
    such as `llm-d:8000`. `paths` are taken beside the known ones.
    """
    known = {*BATCH_ENDPOINTS, *OTHER_ENDPOINTS, *paths}
    if url in known:
        return url
    if "://" in url:
        parts = urlsplit(url)
        if parts.netloc.lower() not in hosts or parts.query:
            return None
        url = parts.path
    path = "/" + url.strip().strip("/")
    spellings = (
        path,
        _VERSION + path,
        path[path.find(_VERSION + "/") :] if _VERSION in path else path,
    )
    return next((one for one in spellings if one in known), None)
