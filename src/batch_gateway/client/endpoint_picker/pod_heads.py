"""The request head that a pod gets: what a picker made of the headers, and nothing of ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Never

from batch_gateway.errors import BadResponseError

__all__ = ["PodHeads"]

_PATH = re.compile(r"/[!-~]*")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
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
        known, host = self._known, self._host
        lines = [f"POST {path} HTTP/1.1", ""]
        for name, value in headers:
            if name not in known:
                if name == ":authority" and value != self._told:
                    host = value
                if name.startswith(":"):
                    continue
                self._learn(name)
            lines.append(f"{name}: {value}")
        lines[1] = f"Host: {host}"
        text = "\r\n".join(lines)
        # One look at all of them: only the separators may be control characters.
        if text.count("\n") != len(lines) - 1 or not _plain(text.replace("\r\n", "")):
            _blame(headers)
        if not _PATH.fullmatch(path):
            raise BadResponseError(f"the endpoint picker set a path that cannot be sent: {path!r}")
        return f"{text}\r\nContent-Length: {length}\r\n\r\n".encode("latin-1")

    def _learn(self, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise BadResponseError(f"the endpoint picker set {name!r:.80}, which is no header name")
        if len(self._known) < _MAX_NAMES:
            self._known.add(name)


def _plain(text: str) -> bool:
    return (text.isascii() and text.isprintable()) or _VALUE.fullmatch(text) is not None


def _blame(headers: Sequence[tuple[str, str]]) -> Never:
    for name, value in headers:
        if not _VALUE.fullmatch(value):
            raise BadResponseError(
                f"the endpoint picker set {name} to a value with a control character"
            )
    raise BadResponseError("the endpoint picker set a path that cannot be sent")
