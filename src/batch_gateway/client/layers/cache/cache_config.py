"""The settings of the cache, checked when they are made."""

from __future__ import annotations

import os
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from batch_gateway.byte_size import ByteSize, byte_count, parse_byte_size
from batch_gateway.config_checks import (
    PathLike,
    normalise_duration,
    require_kinds,
    require_positive,
)
from batch_gateway.durations import Duration, seconds
from batch_gateway.errors import ConfigError

__all__ = ["CacheConfig"]

_LEAST_BYTES = 2**20


@dataclass(frozen=True)
class CacheConfig:
    """Where answers are kept and for how long.

    Attributes:
        path: an SQLite file on a local disk, made when it is missing. Several clients and
            processes may share it.
        max_bytes: how large it may grow; what was used longest ago is dropped first. Bytes or a
            string such as "512MiB"; at least 1 MiB.
        max_age: an older answer is asked for again. None keeps answers for ever.
        namespace: only clients of one namespace share answers; None means the gateway's URL.
    """

    path: PathLike
    _: KW_ONLY
    max_bytes: ByteSize = 2**30
    max_age: Duration | None = 30 * 24 * 3600.0
    namespace: str | None = None

    def __post_init__(self) -> None:
        require_kinds(self, "cache.")
        if not os.fspath(self.path):
            raise ConfigError("cache.path", "is empty; give the path of a file")
        if "\0" in os.fspath(self.path):
            raise ConfigError("cache.path", "no file can have a NUL character in its name")
        object.__setattr__(self, "path", Path(self.path))
        object.__setattr__(self, "max_bytes", parse_byte_size(self.max_bytes, "cache.max_bytes"))
        if byte_count(self.max_bytes) < _LEAST_BYTES:
            raise ConfigError("cache.max_bytes", "must be at least 1MiB")
        if self.max_age is not None:
            normalise_duration(self, "max_age", prefix="cache.")
            require_positive("cache.max_age", seconds(self.max_age))
