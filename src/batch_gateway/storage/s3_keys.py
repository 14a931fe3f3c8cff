"""Where the keys of S3 come from: the environment, a mounted secret, or a shared credentials file.

Where none of them has any, the machine may have an identity of its own, which obstore knows how to
ask for: web identities, containers and instances of AWS.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from batch_gateway.errors import ConfigError
from batch_gateway.storage.store_address import StoreAddress

__all__ = ["S3Keys", "find_s3_keys"]

MOUNTED_SECRET: Final = Path("/etc/.secrets/s3-secret-access-key")
"""Where the chart of llm-d's batch gateway mounts the secret of `access_key_id`."""

_IDENTITIES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_SKIP_SIGNATURE",
)
_MOST_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class S3Keys:
    """What requests to S3 are signed with."""

    access_key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


def find_s3_keys(
    address: StoreAddress,
    environment: Mapping[str, str],
    *,
    mounted: Path = MOUNTED_SECRET,
) -> S3Keys | None:
    """The keys for `address`; None where only the machine's own identity can help.

    Raises ConfigError for keys of which only a half is there, and for files that cannot be read.
    """
    given = {name: environment.get(name, "").strip() for name in environment}
    key_id, secret = (
        given.get(name, "") for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )
    token = given.get("AWS_SESSION_TOKEN") or given.get("AWS_TOKEN") or None
    wanted = address.access_key_id or key_id
    if wanted and secret:
        return S3Keys(wanted, secret, token if wanted == key_id else None)
    if wanted and mounted.is_file():
        return S3Keys(wanted, _text(mounted).strip())
    if not wanted and any(given.get(name) for name in _IDENTITIES):
        return None
    found = _from_shared_file(given)
    if wanted and (found is None or found.access_key_id != wanted):
        raise ConfigError(
            "store",
            "has an access_key_id without its secret: put that into AWS_SECRET_ACCESS_KEY,"
            f" {mounted}, or the file that AWS_SHARED_CREDENTIALS_FILE names",
        )
    return found


def _from_shared_file(given: Mapping[str, str]) -> S3Keys | None:
    named, profile = given.get("AWS_SHARED_CREDENTIALS_FILE"), given.get("AWS_PROFILE")
    home = given.get("HOME")
    path = Path(named) if named else Path(home or "/") / ".aws" / "credentials"
    if not named and not path.is_file():
        return None
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(_text(path))
    except configparser.Error:
        # Its message shows lines, and with them secrets.
        raise ConfigError("store", f"{path} is no file of AWS credentials") from None
    section = profile or "default"
    values = dict(parser.items(section)) if parser.has_section(section) else {}
    key_id, secret = values.get("aws_access_key_id"), values.get("aws_secret_access_key")
    if key_id and secret:
        return S3Keys(key_id, secret, values.get("aws_session_token"))
    if named or profile:
        raise ConfigError("store", f"{path} has no keys in its profile [{section}]")
    return None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8")
    except OSError as error:
        raise ConfigError("store", f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigError("store", f"{path} has no keys in it") from None
