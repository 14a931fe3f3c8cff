"""Where an object store is, as users write it: `s3://bucket/prefix?region=eu-west-1`. Pure.

An address holds no secret, and a URL with one in it is refused without showing it: addresses stand
in command lines, logs and messages.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Self
from urllib.parse import parse_qsl, urlsplit

import msgspec

from batch_gateway.errors import ConfigError

__all__ = ["SCHEMES", "StoreAddress"]

SCHEMES: Final = ("s3", "gs", "az")
_OPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "s3": ("endpoint", "region", "path_style", "access_key_id"),
    "gs": ("endpoint",),
    "az": ("account", "endpoint"),
}
_OTHER_NAMES: Final = {"use_path_style": "path_style", "account_name": "account"}
_LOOKS_SECRET = re.compile(r"secret|token|password|credential|signature|^sig$|key", re.IGNORECASE)
_WHERE_SECRETS_BELONG: Final = {
    "s3": "AWS_SECRET_ACCESS_KEY, or a file that AWS_SHARED_CREDENTIALS_FILE names",
    "gs": "a file that GOOGLE_APPLICATION_CREDENTIALS names",
    "az": "AZURE_STORAGE_ACCOUNT_KEY",
}
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,221}[A-Za-z0-9]")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_PREFIX = 400


class StoreAddress(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket (of Azure: a container) and what is needed to reach it, but no secret.

    Attributes:
        prefix: what all names of the store begin with, without slashes around it; may be empty.
        endpoint: the URL of a store that is not the cloud's own.
        region: of S3; None takes AWS_REGION, or us-east-1.
        path_style: whether the bucket of S3 stands in the path and not in the host name; None for
            what goes with the endpoint.
        access_key_id: of S3, whose secret is found elsewhere; None takes the environment's.
        account: of Azure; None takes AZURE_STORAGE_ACCOUNT_NAME.
    """

    scheme: Literal["s3", "gs", "az"]
    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    path_style: bool | None = None
    access_key_id: str | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        if not _BUCKET.fullmatch(self.bucket):
            raise ValueError("has no name of a bucket, which is letters, digits, dots and dashes")
        if self.endpoint is not None:
            _check_endpoint(self.endpoint)
        if self.prefix:
            _check_prefix(self.prefix)

    @classmethod
    def parse(cls, url: str, field: str = "store") -> Self:
        """The address that `url` is. Raises ConfigError, which shows nothing that may be secret."""
        try:
            return cls._parse(_Taken.apart(url))
        except ValueError as error:
            raise ConfigError(field, str(error)) from None

    @classmethod
    def _parse(cls, url: _Taken) -> Self:
        names = _OPTIONS[url.scheme]
        options: dict[str, str] = {}
        for said, value in url.options:
            name = _OTHER_NAMES.get(said, said)
            if name not in names and _LOOKS_SECRET.search(said):
                raise ValueError(_no_secrets(url.scheme))
            if name not in names:
                # Which is not shown: it may be a secret without its name.
                raise ValueError(f"can have {', '.join(names)} behind its ?, and nothing else")
            if name in options:
                raise ValueError(f"has {name} twice")
            options[name] = value
        path_style = options.pop("path_style", None)
        given = {
            "scheme": url.scheme,
            "bucket": url.bucket,
            "prefix": url.path.strip("/"),
            "path_style": None if path_style is None else _yes_or_no(path_style),
            **{name: value for name, value in options.items() if value},
        }
        try:
            return msgspec.convert(given, cls)
        except msgspec.ValidationError as error:
            # Before msgspec 0.20 it is no ValueError.
            raise ValueError(str(error)) from None

    def __str__(self) -> str:
        """As in messages: `s3://bucket/prefix`."""
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")


class _Taken(NamedTuple):
    """A URL taken apart."""

    scheme: Literal["s3", "gs", "az"]
    bucket: str
    path: str
    options: list[tuple[str, str]]

    @classmethod
    def apart(cls, url: str) -> _Taken:
        scheme, separator, rest = url.partition("://")
        if scheme not in SCHEMES or not separator:
            raise ValueError("must be s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER")
        if "#" in rest:
            raise ValueError("has a # in it, which no name there can have")
        place, _, query = rest.partition("?")
        bucket, _, path = place.partition("/")
        if "@" in bucket or ":" in bucket:
            raise ValueError(_no_secrets(scheme))
        return cls(scheme, bucket, path, parse_qsl(query, keep_blank_values=True))


def _no_secrets(scheme: str) -> str:
    return (
        "must have no keys in it, since command lines and logs are seen by many: put them into "
        + _WHERE_SECRETS_BELONG[scheme]
    )


def _yes_or_no(value: str) -> bool:
    if value.lower() not in {"true", "false", "1", "0", "yes", "no"}:
        raise ValueError("has a path_style that is not true or false")
    return value.lower() in {"true", "1", "yes"}


def _check_endpoint(endpoint: str) -> None:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("has an endpoint that is no URL, such as http://127.0.0.1:9000")
    if "@" in parts.netloc:
        raise ValueError("has an endpoint with a user in it: keys belong elsewhere")
    if parts.query or parts.fragment:
        raise ValueError("has an endpoint with more than a host, a port and a path")


def _check_prefix(prefix: str) -> None:
    parts = prefix.split("/")
    if "" in parts or "." in parts or ".." in parts or _UNPRINTABLE.search(prefix):
        raise ValueError("has a prefix with an empty part, a '.', a '..' or a control character")
    if len(prefix.encode("utf-8", "replace")) > _LONGEST_PREFIX:
        raise ValueError(f"has a prefix of more than {_LONGEST_PREFIX} bytes")
