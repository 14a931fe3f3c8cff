"""An API key and its sources: a file, a variable of the environment. A message never shows it."""

from __future__ import annotations

import os
from pathlib import Path

from batch_gateway.config_checks import PathLike
from batch_gateway.errors import ConfigError

__all__ = ["read_api_key_file", "read_api_key_variable", "require_sendable_key"]


def read_api_key_file(path: PathLike) -> str:
    """The key in the first line of a file. Raises ConfigError."""
    try:
        text = Path(path).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError("api_key_file", f"{os.fspath(path)}: {reason}") from error
    if not text:
        raise ConfigError("api_key_file", f"{os.fspath(path)} is empty")
    return require_sendable_key("api_key_file", text.splitlines()[0].strip())


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
