"""What people write as a gateway's URL, and where on that gateway the path of a request is.

Requests name their paths as OpenAI does, `/v1/chat/completions`. A base URL says where that is:

- a path that has a version in it, as SDKs want it (`/v1`, `/api/v3`, `/v1beta/openai`), or a query
  with `api-version`, is where the API begins: it stands in the place of the `/v1`;
- so does whatever comes before an endpoint (`/inference/chat/completions`);
- any other path is a prefix of the gateway: it is put before the whole.
"""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.http.redaction import is_credential

__all__ = ["DEFAULT_BASE_URL", "ApiPath", "checked_base_url"]

DEFAULT_BASE_URL = "http://localhost:8000"

_SCHEMES = ("http", "https", "grpc", "grpcs")
# Quotes, and what cannot be seen: no-break and zero-width spaces, a byte-order mark.
_AROUND = " \t\r\n\"'`<>“”‘’\xa0\u200b\u200c\u200d\u2060\ufeff"  # noqa: RUF001
_WITH_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
# A word alone is more likely a mistyped setting than a host, and `http` half a scheme.
_WITHOUT_SCHEME = re.compile(
    r"(?!https?[:/])(?P<host>localhost|\[[0-9A-Fa-f:.]+\]|[\w-]+(?:\.[\w-]+)+|[\w-]+(?=[:/]))"
    r"(?::(?P<port>\d+))?(?:[/?].*)?"
)
_TLS_PORTS = frozenset({"443", "8443"})
_VERSION = re.compile(r"v\d+(?:(?:alpha|beta)\d*)?", re.IGNORECASE)
_ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|embeddings|responses|moderations|score|rerank)$"
)
# Behind a version the list of models too; elsewhere an API may have that name.
_ASKED_FOR = re.compile(rf"(?:{_ENDPOINT.pattern})|/models$")
_VERSION_PARAMETER = "api-version"
# Azure's functions and signed URLs have their keys there.
_SECRET_PARAMETERS = frozenset({"code", "sig"})
_KEY_APART = "give the key by itself instead (api_key, --api-key-file, --api-key-env)"


class ApiPath(msgspec.Struct, frozen=True):
    """Where the paths of requests are on one gateway.

    Attributes:
        prefix: put before every path; empty or starting with "/".
        replaces_v1: the prefix stands in the place of the `/v1` that a path begins with.
        query: put behind every path, "?" included; or empty.
    """

    prefix: str = ""
    replaces_v1: bool = False
    query: str = ""

    @classmethod
    def of(cls, url: SplitResult) -> ApiPath:
        """What `url`, which `checked_base_url` gave back, says."""
        before = _ENDPOINT.sub("", url.path)
        begins_there = before != url.path or _has_version(before, url.query)
        return cls(before.rstrip("/"), begins_there, f"?{url.query}" if url.query else "")

    def target(self, path: str) -> str:
        """What is asked for when a request says `path`."""
        if self.replaces_v1 and path.startswith("/v1/"):
            path = path.removeprefix("/v1")
        query = self.query.replace("?", "&", 1) if "?" in path else self.query
        return f"{self.prefix}{path}{query}"


def checked_base_url(url: object) -> str:
    """`url` in one spelling: with a scheme, and without what does not change where requests go.

    Blanks and quotes around it are dropped, as are an endpoint behind the API's own path, and a
    `/v1` at the end. Without a scheme, a name with a dot and no port is `https`, and everything
    else `http`. Raises ConfigError, which shows no credentials.
    """
    if not isinstance(url, str):
        raise ConfigError("base_url", f"{url!r} is not a URL")
    text = _with_scheme(url.strip(_AROUND))
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError("base_url", f"is not a URL: {error}") from error
    # Before anything that quotes the URL: it may hold a password.
    _refuse_credentials(text, parts)
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise ConfigError(
            "base_url", f"{text!r} is not a URL such as {DEFAULT_BASE_URL} or grpc://picker:9002"
        )
    if parts.fragment:
        raise ConfigError("base_url", f"{text!r} must end before any '#'")
    if not all("!" <= character <= "~" for character in text):
        raise ConfigError("base_url", f"{text!r} has a space or a character that must be escaped")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port is None else f"{host}:{port}"
    path = _shortened(parts.path.rstrip("/"), parts.query)
    return parts._replace(netloc=netloc, path=path, fragment="").geturl()


def _with_scheme(text: str) -> str:
    bare = None if _WITH_SCHEME.match(text) else _WITHOUT_SCHEME.fullmatch(text)
    if bare is None:
        return text
    host, port = bare.group("host", "port")
    # A key must not travel in the clear because somebody left out a scheme.
    public = "." in host and not host.replace(".", "").isdigit() and not host.startswith("[")
    secure = port in _TLS_PORTS if port else public
    return f"{'https' if secure else 'http'}://{text}"


def _refuse_credentials(text: str, parts: SplitResult) -> None:
    if "@" in (parts.netloc or text):
        raise ConfigError("base_url", f"holds credentials; {_KEY_APART}")
    for name, _ in parse_qsl(parts.query, keep_blank_values=True):
        if is_credential(name) or name.lower() in _SECRET_PARAMETERS:
            raise ConfigError(
                "base_url",
                f"holds a credential, {name!r:.40}, and URLs are shown in messages and metrics;"
                f" {_KEY_APART}, or as a header (headers, --header)",
            )


def _shortened(path: str, query: str) -> str:
    """`path` without what it means anyway, so that one gateway has one name."""
    before = _ASKED_FOR.sub("", path)
    # What has an endpoint twice is left alone, or its shorter form would be shortened again.
    if _has_version(before) and not _ASKED_FOR.search(before):
        path = before.rstrip("/")
    root = path.removesuffix("/v1")
    return path if _has_version(root, query) else root.rstrip("/")


def _has_version(path: str, query: str = "") -> bool:
    if any(_VERSION.fullmatch(segment) for segment in path.split("/")):
        return True
    return any(name.lower() == _VERSION_PARAMETER for name, _ in parse_qsl(query))
