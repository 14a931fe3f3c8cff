"""An API key and its sources: a file, a variable of the environment. A message never shows it."""

from __future__ import annotations

import os
from pathlib import Path

from batch_gateway.config_checks import PathLike
from batch_gateway.errors import ConfigError
from batch_gateway.wire.rare_pattern import rare_pattern

# What stands behind the sign is no padding of base64.
_ASSIGNMENT = rare_pattern(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]*\s*=\s*[^=\s]")

__all__ = ["read_api_key_file", "read_api_key_variable", "require_sendable_key"]


def read_api_key_file(path: PathLike) -> str:
    """The key in the first line of a file, without a byte-order mark. Raises ConfigError."""
    try:
        text = Path(path).read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError("api_key_file", f"{os.fspath(path)}: {reason}") from error
    if not text:
        raise ConfigError("api_key_file", f"{os.fspath(path)} is empty")
    key = text.splitlines()[0].strip()
    if len(key) > 1 and key[0] == key[-1] and key[0] in "\"'":
        raise ConfigError(
            "api_key_file", f"{os.fspath(path)}: the key is in quotes; write it without them"
        )
    if _ASSIGNMENT.match(key):
        raise ConfigError(
            "api_key_file",
            f"{os.fspath(path)}: has a line such as NAME=key, as shells and .env files do; write"
            " the key alone, or load the file and use --api-key-env NAME",
        )
    return require_sendable_key("api_key_file", key)


def read_api_key_variable(name: str) -> str:
    """The key in a variable of the environment. Raises ConfigError."""
    key = os.environ.get(name, "").strip()
    if not key:
        raise ConfigError("api_key_env", f"the variable {name} is not set")
    return require_sendable_key("api_key_env", key)


def require_sendable_key(field_name: str, key: str) -> str:
    """The key itself, when a header can hold it."""
    if not all("!" <= character <= "~" for character in key):
        raise ConfigError(
            field_name, "the key has a space, a line break or a character that is not ASCII"
        )
    return key
