"""A plain HTTP client for the tests: sockets and http.client, nothing of ours."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

CHAT: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}]}
CHAT_PATH = "/v1/chat/completions"


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    url: str,
    path: str = CHAT_PATH,
    body: Any = CHAT,
    *,
    method: str = "POST",
    timeout: float = 30.0,
    **headers: str,
) -> Answered:
    """One request on a connection of its own. Underscores in header names are dashes."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        return ask_on(connection, path, body, method=method, **headers)
    finally:
        connection.close()


def ask_on(
    connection: http.client.HTTPConnection,
    path: str = CHAT_PATH,
    body: Any = CHAT,
    *,
    method: str = "POST",
    **headers: str,
) -> Answered:
    """One request on a connection that stays open."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, data, {"Content-Type": "application/json"} | names)
    response = connection.getresponse()
    lower = {name.lower(): value for name, value in response.getheaders()}
    return Answered(response.status, lower, response.read())


def get(url: str, path: str) -> Answered:
    return ask(url, path, b"", method="GET")
