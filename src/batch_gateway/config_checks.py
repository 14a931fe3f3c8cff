"""Checks that every configuration object makes of its own fields, with the field in the error."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from batch_gateway.durations import parse_duration
from batch_gateway.errors import ConfigError

__all__ = [
    "PathLike",
    "normalise_duration",
    "require_choice",
    "require_count",
    "require_kind",
    "require_kinds",
    "require_number",
    "require_port",
    "require_positive",
    "require_readable_file",
]

PathLike = str | os.PathLike[str]

_HIGHEST_PORT = 65_535


def require_kinds(owner: Any, prefix: str = "", *, but: Collection[str] = ()) -> None:
    """Every field of a dataclass holds what its annotation names.

    Not looked at: the fields `but`, and those that take numbers or choices, which have checks of
    their own. Raises ConfigError, which shows no value: it may be a secret.
    """
    for name, annotation in _annotations(owner.__class__):
        members = tuple(_members(annotation))
        checked = any(member in (int, float) or get_origin(member) is Literal for member in members)
        if name not in but and not checked:
            require_kind(prefix + name, getattr(owner, name), annotation)


def require_kind(name: str, value: object, annotation: Any) -> None:
    """`value` is what `annotation` names: a class, a mapping, a list, or a union of such."""
    members = tuple(_members(annotation))
    if not any(_is_a(value, member) for member in members):
        wanted = " or ".join(map(_described, members))
        # A list of the wrong things is still a list.
        nearly = isinstance(value, tuple(get_origin(member) or member for member in members))
        raise ConfigError(name, f"must be {wanted}" + ("" if nearly else f", not {_found(value)}"))


@cache
def _annotations(owner: type[Any]) -> tuple[tuple[str, Any], ...]:
    hints = get_type_hints(owner)
    return tuple((field.name, hints[field.name]) for field in fields(owner))


def _members(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from _members(member)
    else:
        yield annotation


def _is_a(value: object, member: Any) -> bool:
    kind: type = get_origin(member) or member
    if not isinstance(value, kind):
        return False
    if kind is Sequence and get_args(member) == (str,):
        items = cast("Sequence[object]", value)
        return not isinstance(value, str) and all(isinstance(item, str) for item in items)
    if kind is Mapping and get_args(member) == (str, str):
        pairs = cast("Mapping[object, object]", value).items()
        return all(isinstance(key, str) and isinstance(text, str) for key, text in pairs)
    return True


_DESCRIPTIONS: dict[Any, str] = {
    NoneType: "None",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a string",
    bytes: "bytes",
    os.PathLike: "a path",
    Sequence: "a list",
    Sequence[str]: "a list of strings",
    Mapping: "a mapping",
    Mapping[str, str]: "a mapping of strings to strings",
}


def _described(kind: Any) -> str:
    plain = get_origin(kind) or kind
    known = _DESCRIPTIONS.get(kind) or _DESCRIPTIONS.get(plain)
    if known:
        return known
    article = "an" if plain.__name__.startswith(("HTTP", "SSL", *"AEIOUaeiou")) else "a"
    return f"{article} {plain.__name__}"


def _found(value: object) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"the class {value.__name__}" if isinstance(value, type) else _described(type(value))


def normalise_duration(owner: Any, name: str, prefix: str = "") -> None:
    """Put the seconds of a duration in its place, on a frozen object."""
    object.__setattr__(owner, name, parse_duration(getattr(owner, name), prefix + name))


def require_positive(name: str, value: float) -> None:
    if value <= 0:
        raise ConfigError(name, "must be more than zero")


def require_count(name: str, value: object, *, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(name, f"{value!r:.80} is not a whole number of at least {minimum}")


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


def require_port(name: str, value: object) -> None:
    require_count(name, value, minimum=0)
    if isinstance(value, int) and value > _HIGHEST_PORT:
        raise ConfigError(name, f"{value} is above {_HIGHEST_PORT}")


def require_choice(name: str, value: object, choices: Any) -> None:
    """`choices` is the Literal type of the field."""
    if value not in get_args(choices):
        raise ConfigError(name, f"{value!r} is not one of {', '.join(get_args(choices))}")


def require_readable_file(name: str, path: PathLike | None) -> None:
    if path is not None and not Path(path).is_file():
        raise ConfigError(name, f"{os.fspath(path)} is not a file")
