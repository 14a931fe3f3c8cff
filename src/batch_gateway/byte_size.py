"""Sizes such as "512MiB" or "2GB", and plain numbers of bytes."""

from __future__ import annotations

import re
from math import isinf

from batch_gateway.errors import ConfigError

__all__ = ["ByteSize", "byte_count", "parse_byte_size"]

ByteSize = int | str
"""Bytes as a whole number, or a string such as "512MiB" (powers of 1,024) or "2GB" (of 1,000)."""

_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)", re.ASCII | re.IGNORECASE)


def parse_byte_size(value: object, field: str = "size") -> int:
    """Bytes. Raises ConfigError, naming `field`, for anything that is no size."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = _UNITS.get(found.group(2).lower()) if found else None
    if found is None or unit is None:
        raise ConfigError(
            field, f"{value!r} is not a size: write bytes, or such as '512MiB', '2GB'"
        )
    size = float(found.group(1)) * unit
    if isinf(size):
        raise ConfigError(field, "is more than any disk or memory holds")
    return round(size)


def byte_count(value: ByteSize) -> int:
    """A size that was checked before, in bytes."""
    return value if isinstance(value, int) else parse_byte_size(value)
