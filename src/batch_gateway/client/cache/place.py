"""Whether a cache can be where the user wants it, before anything is opened there."""

from __future__ import annotations

from pathlib import Path

from batch_gateway.errors import ConfigError

__all__ = ["APPLICATION_ID", "check_place"]

APPLICATION_ID = 0x62676368
"""In the header of the file, "bgch": tells our databases from those of others."""

_MAGIC = b"SQLite format 3\0"


def check_place(path: Path) -> None:
    """Raises ConfigError for a place where no file can be, or where something else is.

    A cache that a crash has left in a bad state starts with zeros or with anything; text and the
    databases of others do not come about that way, and are not ours to set aside.
    """
    try:
        if not path.parent.is_dir():
            raise ConfigError("cache.path", f"there is no folder {path.parent}")
        if path.is_dir():
            raise ConfigError("cache.path", f"{path} is a folder; give the path of a file")
        owner = _owner(path) if path.exists() else ""
    except OSError as error:
        raise ConfigError("cache.path", f"{path}: {error.strerror}") from error
    if owner:
        raise ConfigError("cache.path", f"{path} is {owner}, not an answer cache")


def _owner(path: Path) -> str:
    """What a file is when it is not a cache, damaged or not; else empty."""
    with path.open("rb") as file:
        start = file.read(100)
    if start.startswith(_MAGIC):
        owner = int.from_bytes(start[68:72], "big")
        return "" if owner in (0, APPLICATION_ID) else "another program's database"
    text = start.decode("utf-8", "ignore")
    return "a text file" if "\0" not in text and len(text) > len(start) // 2 else ""
