"""Checks that every configuration object makes of its own fields, with the field in the error."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, get_args

from batch_gateway.durations import parse_duration
from batch_gateway.errors import ConfigError

__all__ = [
    "PathLike",
    "normalise_duration",
    "require_choice",
    "require_count",
    "require_number",
    "require_positive",
    "require_readable_file",
]

PathLike = str | os.PathLike[str]


def normalise_duration(owner: Any, name: str, prefix: str = "") -> None:
    """Put the seconds of a duration in its place, on a frozen object."""
    object.__setattr__(owner, name, parse_duration(getattr(owner, name), prefix + name))


def require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(name, "must be more than zero")


def require_count(name: str, value: object, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(name, f"{value!r} is not a whole number of at least {minimum}")


def require_number(
    name: str, value: object, *, above_zero: bool = False, finite: bool = False
) -> None:
    """At least 0, and infinity too where nothing is said against it."""
    least = "above 0" if above_zero else "of at least 0"
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigError(name, f"{value!r} is not a number {least}")
    if above_zero and value == 0:
        raise ConfigError(name, f"{value!r} is not a number {least}")
    # A whole number may be larger than every float, too.
    if finite and value > sys.float_info.max:
        raise ConfigError(name, "must be finite")


def require_choice(name: str, value: object, choices: Any) -> None:
    """`choices` is the Literal type of the field."""
    if value not in get_args(choices):
        raise ConfigError(name, f"{value!r} is not one of {', '.join(get_args(choices))}")


def require_readable_file(name: str, path: PathLike | None) -> None:
    if path is not None and not Path(path).is_file():
        raise ConfigError(name, f"{os.fspath(path)} is not a file")
