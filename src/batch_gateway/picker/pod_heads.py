"""The request head that a pod gets: what a picker made of the headers, and nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Never

from batch_gateway.errors import BadResponseError

__all__ = ["PodHeads"]

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
# Everything that may stand in a line; what is left of a head without it are its line breaks.
_IN_A_LINE = bytes(code for code in range(256) if code == 9 or 32 <= code < 127 or code > 127)
# What a request with a body may be; the answer to any other has another framing.
_METHODS = frozenset({"PATCH", "PUT", "QUERY"})
# Names come in their hundreds at most; a picker that makes them up must not fill memory.
_MAX_NAMES = 4096


class PodHeads:
    """Builds heads for one pod; stands in for `RequestHeads` of the HTTP transport.

    Raises BadResponseError for a path or header that cannot be sent: only the picker can have set
    it, because the caller's own were checked before it was asked.
    """

    __slots__ = ("_host", "_known", "_told")

    def __init__(self, host: str, told: str | None, known: set[str]) -> None:
        self._host = host
        # The authority that the picker was told when it is not to be the pod's Host as well.
        self._told = told
        # Names that were found good, whichever pod they went to.
        self._known = known

    def build(self, path: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        """The bytes before the body. Pseudo headers are passed over, but for ":authority"."""
        known, host, method = self._known, self._host, "POST"
        lines = ["", ""]
        for name, value in headers:
            if name in known:
                lines.append(f"{name}: {value}")
            elif name[:1] != ":":
                self._learn(name)
                lines.append(f"{name}: {value}")
            elif name == ":authority" and value != self._told:
                host = value
            elif name == ":method":
                method = value
        if method != "POST" and method not in _METHODS:
            raise BadResponseError(f"the endpoint picker set a method that is not sent: {method!r}")
        lines[0] = f"{method} {path} HTTP/1.1"
        lines[1] = f"Host: {host}"
        breaks = len(lines) + 2
        lines.append(f"Content-Length: {length}\r\n\r\n")
        try:
            head = "\r\n".join(lines).encode("latin-1")
        except UnicodeEncodeError:
            _blame(headers)
        if head.translate(None, _IN_A_LINE) != b"\r\n" * breaks:
            _blame(headers)
        if path[:1] != "/" or " " in path or not path.isascii():
            raise BadResponseError(f"the endpoint picker set a path that cannot be sent: {path!r}")
        return head

    def _learn(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise BadResponseError(f"the endpoint picker set {name!r:.80}, which is no header name")
        if len(self._known) < _MAX_NAMES:
            self._known.add(name)


def _blame(headers: Sequence[tuple[str, str]]) -> Never:
    for name, value in headers:
        try:
            left = value.encode("latin-1").translate(None, _IN_A_LINE)
        except UnicodeEncodeError:
            left = b"beyond"
        if left:
            raise BadResponseError(
                f"the endpoint picker set {name} to what cannot be sent: control characters, or"
                " characters beyond Latin-1"
            )
    raise BadResponseError("the endpoint picker set a path that cannot be sent")
