"""How the text of a setting becomes its value: one parser for flags, variables and files."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from batch_gateway.byte_size import parse_byte_size
from batch_gateway.config_checks import require_count, require_number
from batch_gateway.durations import parse_duration
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.errors import ConfigError
from batch_gateway.http.proxy_url import Proxy
from batch_gateway.report.threshold import Threshold
from batch_gateway.storage.store_address import StoreAddress

__all__ = [
    "AUTO",
    "CONCURRENCY",
    "CONDITIONS",
    "DATABASE",
    "DURATION",
    "FAILURES",
    "FRACTION",
    "PATH",
    "PORT",
    "PROXY",
    "RATE",
    "SECRET_NAME",
    "SIZE",
    "STORE",
    "SWITCH",
    "VARIABLE",
    "Kind",
    "choice",
    "count",
    "items",
    "pairs",
    "size",
    "text",
]

AUTO = "auto"
"""A concurrency that is found by measuring."""

# Where the charts of llm-d's batch gateway mount the keys that its files name.
_SECRETS = Path("/etc/.secrets")
_YES, _NO = frozenset({"true", "yes", "on", "1"}), frozenset({"false", "no", "off", "0"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HIGHEST_PORT = 65_535
# More of a value than that says nothing to a person.
_SHOWN = 80


class Kind(msgspec.Struct, frozen=True):
    """What a setting's values are.

    Attributes:
        metavar: stands for a value in help; empty for a switch.
        parse: the value from (its name in errors, its text). Raises ConfigError.
        choices: all texts there are, if they are few.
        bounds: the numbers there are, as help shows them.
        several: whether there may be more values than one: a list of them, or pairs of a name
            and a value.
        is_number: a number in a file is read as YAML reads it; all else is its text as it stands.
    """

    metavar: str
    parse: Callable[[str, str], object]
    choices: tuple[str, ...] = ()
    bounds: str = ""
    several: Literal["", "items", "pairs"] = ""
    is_number: bool = False


def _as_it_is(_field: str, given: str) -> str:
    return given


def _path(field: str, given: str) -> Path:
    if "\0" in given:
        raise ConfigError(field, "has a zero byte in it, which no path can have")
    path = Path(given)
    try:
        path = path.expanduser()
        os.lstat(path)
    except UnicodeEncodeError:
        raise ConfigError(field, "has a character in it that no path can have") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ConfigError(field, f"is no path: {error.strerror}") from None
    except RuntimeError:
        home = given.partition("/")[0]
        raise ConfigError(
            field, f"there is no home directory {home!r:.{_SHOWN}}; write the path in full"
        ) from None
    return path


def _secret(field: str, given: str) -> Path:
    if "/" in given:
        raise ConfigError(field, f"{given!r:.{_SHOWN}} is not the name of a file in {_SECRETS}")
    return _SECRETS / _path(field, given)


def _variable(field: str, given: str) -> str:
    if not _VARIABLE.fullmatch(given):  # and it is not shown: it may be the key itself
        raise ConfigError(
            field,
            "must be the name of a variable, such as GATEWAY_KEY; a key itself belongs into that"
            " variable, or a file",
        )
    return given


def _switch(field: str, given: str) -> bool:
    word = given.lower()
    if word not in _YES | _NO:
        raise ConfigError(field, f"{_shown(given)} is not true or false")
    return word in _YES


def _number(field: str, given: str, wanted: str) -> float:
    try:
        return float(given)
    except ValueError:
        raise ConfigError(field, f"{_shown(given)} is not a number {wanted}") from None


def _rate(field: str, given: str) -> float:
    rate = _number(field, given, "above 0")
    require_number(field, rate, above_zero=True, finite=True)
    return rate


def _fraction(field: str, given: str) -> float:
    fraction = _number(field, given, "between 0 and 1")
    if not 0 < fraction < 1:
        raise ConfigError(field, f"{_shown(given)} is not a number between 0 and 1")
    return fraction


def _proxy(field: str, given: str) -> str:
    if given != "env":
        try:
            Proxy.parse(given)
        except ConfigError as error:  # which does not show it: there may be a password in it
            raise ConfigError(field, error.problem.replace("'env'", "env")) from error
    return given


def _database(field: str, given: str) -> str:
    if not given.startswith(("postgresql://", "postgres://")):  # and it is not shown
        raise ConfigError(field, "must be such as postgresql://USER@HOST:5432/DATABASE")
    return given


def _concurrency(field: str, given: str) -> int | str:
    return AUTO if given == AUTO else _whole(field, given, 1, None)


def _port(field: str, given: str) -> int:
    try:
        return _whole(field, given, 0, _HIGHEST_PORT)
    except ConfigError:
        shown = f"{_shown(given)} is not a port, 0 to {_HIGHEST_PORT}"
        raise ConfigError(field, shown) from None


def _whole(field: str, given: str, least: int, most: int | None) -> int:
    try:
        number = int(given)
    except ValueError:
        number = least - 1
    if number < least or (most is not None and number > most):
        wanted = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(field, f"{_shown(given)} is not a whole number {wanted}")
    return number


def _shown(given: str) -> str:
    """As it stands if it is a number, else in quotes."""
    return given[:_SHOWN] if given.removeprefix("-").isdecimal() else repr(given[:_SHOWN])


def text(metavar: str) -> Kind:
    """Anything, as it stands."""
    return Kind(metavar, _as_it_is)


def items(metavar: str) -> Kind:
    """A list of texts."""
    return Kind(metavar, _as_it_is, several="items")


def pairs(metavar: str) -> Kind:
    """A mapping of texts; `metavar` is such as "NAME=VALUE"."""
    return Kind(metavar, _as_it_is, several="pairs")


def choice(*choices: str, **other_names: str) -> Kind:
    """One of these texts, or another name of one."""

    def parse(field: str, given: str) -> str:
        given = other_names.get(given, given)
        if given not in choices:
            raise ConfigError(field, f"{given[:_SHOWN]} is not one of {', '.join(choices)}")
        return given

    return Kind(f"[{'|'.join(choices)}]", parse, choices=choices)


def count(least: int, most: int | None = None) -> Kind:
    """A whole number."""
    bounds = f"x>={least}" if most is None else f"{least}<=x<={most}"
    return Kind(
        "N", lambda field, given: _whole(field, given, least, most), bounds=bounds, is_number=True
    )


def size(least: int = 0) -> Kind:
    """Bytes."""

    def parse(field: str, given: str) -> int:
        found = parse_byte_size(given, field)
        require_count(field, found, minimum=least)
        return found

    return Kind("SIZE", parse, is_number=True)


PATH = Kind("PATH", _path)
SECRET_NAME = Kind("NAME", _secret)
VARIABLE = Kind("NAME", _variable)
SWITCH = Kind("", _switch)
DURATION = Kind("DURATION", lambda field, given: parse_duration(given, field), is_number=True)
SIZE = size()
RATE = Kind("N", _rate, bounds="x>0", is_number=True)
FRACTION = Kind("N", _fraction, is_number=True)
CONDITIONS = Kind("CONDITION", lambda field, given: Threshold.parse(given, field), several="items")
FAILURES = Kind("N|P%", lambda field, given: FailureLimit.parse(given, field))
PORT = Kind("N", _port, bounds=f"0<=x<={_HIGHEST_PORT}", is_number=True)
DATABASE = Kind("DSN", _database)
PROXY = Kind("URL|env", _proxy)
STORE = Kind("STORE", lambda field, given: StoreAddress.parse(given, field))
CONCURRENCY = Kind("N|auto", _concurrency, is_number=True)
