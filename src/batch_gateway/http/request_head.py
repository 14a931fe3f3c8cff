"""Request lines and headers; those of a POST from templates, so that little is done twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from batch_gateway.errors import ConfigError, InvalidRequestError
from batch_gateway.http.header_rules import check_headers
from batch_gateway.http.origin_headers import merge_headers

__all__ = ["RequestHeads"]

_PATH = re.compile(r"/[!-~]*")

# Callers use a handful of paths and header names. One that makes them up must not fill memory.
_MAX_TEMPLATES = 256


class RequestHeads:
    """Builds request heads for one gateway.

    `origin` headers go out with every request unless the request sets the same name. For each
    combination of path and header names a template holds everything but the header values and
    the content length. `locate` says what is asked for when a request names a path.
    """

    __slots__ = ("_host", "_locate", "_origin", "_templates")

    def __init__(
        self, host: str, locate: Callable[[str], str], origin: tuple[tuple[str, str], ...]
    ) -> None:
        self._host = host
        self._locate = locate
        # A compressed answer would only cost both sides time; whoever wants one can say so.
        self._origin = merge_headers((("Accept-Encoding", "identity"),), origin)
        self._templates: dict[tuple[str, tuple[str, ...]], tuple[bytes, str]] = {}

    def build(self, path: str, headers: Sequence[tuple[str, str]], length: int) -> bytes:
        """The bytes before the body of a POST of `length` bytes to `path`.

        Raises InvalidRequestError for a path or header that cannot be sent.
        """
        names, values = zip(*headers, strict=True) if headers else ((), ())
        # The one check that every request pays for: a line break in a value would let it
        # write headers, or a whole request, of its own.
        said = "".join(values)
        if not (said.isascii() and said.isprintable()):
            _check(headers)
        key = path, names
        template = self._templates.get(key)
        if template is None:
            template = self._remember(key, path, headers)
        fixed, own = template
        return fixed + (own % (*values, length)).encode("latin-1")

    def build_get(self, path: str, headers: Sequence[tuple[str, str]]) -> bytes:
        """The whole of a GET. Raises InvalidRequestError for what cannot be sent."""
        if not _PATH.fullmatch(path):
            raise InvalidRequestError(f"{path!r} is not a path that a request can be sent to")
        _check(headers)
        pairs = merge_headers(self._origin, tuple(headers))
        lines = [f"GET {self._locate(path)} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in pairs]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _remember(
        self, key: tuple[str, tuple[str, ...]], path: str, headers: Sequence[tuple[str, str]]
    ) -> tuple[bytes, str]:
        template = self._template(path, headers)
        if len(self._templates) >= _MAX_TEMPLATES:
            self._templates.clear()
        self._templates[key] = template
        return template

    def _template(self, path: str, headers: Sequence[tuple[str, str]]) -> tuple[bytes, str]:
        """What all of them begin with, and the rest with places for what differs."""
        if not _PATH.fullmatch(path):
            raise InvalidRequestError(f"{path!r} is not a path that a request can be sent to")
        _check(headers)
        names = tuple((name, "") for name, _ in headers)
        origin = merge_headers(self._origin, names)[: -len(names) or None]
        fixed = [f"POST {self._locate(path)} HTTP/1.1", f"Host: {self._host}"]
        fixed += [f"{name}: {value}" for name, value in origin]
        own = [f"{name.replace('%', '%%')}: %s" for name, _ in headers]
        begins = "\r\n".join([*fixed, ""]).encode("latin-1")
        return begins, "\r\n".join([*own, "Content-Length: %d", "", ""])


def _check(headers: Sequence[tuple[str, str]]) -> None:
    try:
        check_headers("headers", headers)
    except ConfigError as error:
        raise InvalidRequestError(str(error), cause=error) from error
