"""Flags, variables, a config file and defaults, merged into what a service needs beside a run's."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.settings.layers import Layers, require_what_is_needed
from batch_gateway.settings.service_table import FILE_CLIENT, PROCESSOR_FIELDS, SERVER_FIELDS
from batch_gateway.settings.setting import ConfigFile, Given
from batch_gateway.settings.table import SETTINGS
from batch_gateway.storage.store_address import StoreAddress

__all__ = [
    "RecordsSettings",
    "ServiceSettings",
    "naming_the_service_setting",
    "resolve_records",
    "resolve_service",
    "resolve_store",
]

_FIELDS = {field: name for name, field in {**SERVER_FIELDS, **PROCESSOR_FIELDS}.items()}
_KEY_SOURCES = ("header_keys_file", "header_keys_env")


@dataclass(frozen=True)
class RecordsSettings:
    """Where a service has its records.

    Attributes:
        data: the folder of its files, and of its records if they are not elsewhere.
        database: the URL of their database.
        database_password: its password, if that is not in the URL.
    """

    data: Path
    database: str | None = field(default=None, repr=False)
    database_password: str | None = field(default=None, repr=False)


class ServiceSettings(msgspec.Struct, frozen=True):
    """What a service was asked to be.

    Attributes:
        role: what the process does of it.
        records: where its files, where there is no `store`, and its records are.
        store: the bucket of its files.
        server, processor: fields of ServerConfig and ProcessorConfig, where they were given.
        given: where.
    """

    role: str
    records: RecordsSettings
    store: StoreAddress | None
    server: Mapping[str, Any]
    processor: Mapping[str, Any]
    given: Mapping[str, Given]


def resolve_service(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: ConfigFile
) -> ServiceSettings:
    """Raises ConfigError."""
    given = Layers("serve", flags, environment, file).given
    role = _value(given, "role")
    # A worker reads what others have sealed.
    if role != "worker":
        require_what_is_needed(given, _KEY_SOURCES)
    server = {field: given[name].value for name, field in SERVER_FIELDS.items() if name in given}
    keys = _header_keys(given, environment)
    return ServiceSettings(
        role,
        _records(given),
        _store(given),
        {**server, "header_keys": keys} if keys else server,
        {field: given[name].value for name, field in PROCESSOR_FIELDS.items() if name in given},
        given,
    )


def _store(given: Mapping[str, Given]) -> StoreAddress | None:
    """Where files are kept, from our own setting or else the keys of llm-d's batch gateway."""
    if "store" in given:
        return given["store"].value
    parts = {part: given[name] for name, part in FILE_CLIENT.items() if name in given}
    kind = parts.pop("type", None)
    if kind is None or kind.value != "s3":
        return None
    if "bucket" not in parts:
        raise ConfigError(kind.place, "is s3, which needs file_client.s3.bucket; or give store")
    values = {part: one.value for part, one in parts.items() if one.value != ""}
    values["prefix"] = str(values.get("prefix", "")).strip("/")
    try:
        return StoreAddress(scheme="s3", **values)
    except ValueError as error:
        raise ConfigError(parts["bucket"].place, str(error)) from None


@contextmanager
def naming_the_service_setting(given: Mapping[str, Given]) -> Generator[None]:
    """Turns a ConfigError of the service into one that says where the setting was given."""
    try:
        yield
    except ConfigError as error:
        field = error.field.partition("[")[0]
        source = _FIELDS.get(field, field)
        if field == "header_keys":
            source = next((name for name in _KEY_SOURCES if name in given), _KEY_SOURCES[0])
        place = given[source].place if source in given else _place(source)
        detail = error.field.removeprefix(field)
        raise ConfigError(f"{place}{detail}", error.problem, error.problems) from error


def _place(name: str) -> str:
    return SETTINGS[name].shown_name if name in SETTINGS else name


def _header_keys(given: Mapping[str, Given], environment: Mapping[str, str]) -> Sequence[str]:
    sources = [name for name in _KEY_SOURCES if name in given]
    if not sources:
        return ()
    if len(sources) > 1:
        first, second = (given[name].place for name in sources)
        raise ConfigError(second, f"gives the keys, as {first} does; keep one")
    source = given[sources[0]]
    if sources[0] == "header_keys_env":
        text = environment.get(source.value, "")
    else:
        text = _text_of(source, "ascii")
    keys = [key for key in re.split(r"[\s,]+", text) if key]
    if not keys:
        raise ConfigError(source.place, f"{source.value} is empty")
    return keys


def resolve_records(flags: Mapping[str, Any], environment: Mapping[str, str]) -> RecordsSettings:
    """For whoever needs nothing else of a service. Raises ConfigError."""
    return _records(Layers("serve", flags, environment, ConfigFile()).given)


def resolve_store(flags: Mapping[str, Any], environment: Mapping[str, str]) -> StoreAddress | None:
    """For whoever needs the files beside the records. Raises ConfigError."""
    return _store(Layers("serve", flags, environment, ConfigFile()).given)


def _records(given: Mapping[str, Given]) -> RecordsSettings:
    return RecordsSettings(_value(given, "data"), _value(given, "database"), _password(given))


def _value(given: Mapping[str, Given], name: str) -> Any:
    return given[name].value if name in given else SETTINGS[name].default_value


def _password(given: Mapping[str, Given]) -> str | None:
    source = given.get("database_password_file")
    if source is None:
        return None
    require_what_is_needed(given, ["database_password_file"])
    password = _text_of(source, "utf-8").partition("\n")[0].rstrip("\r")
    if not password:
        raise ConfigError(source.place, f"{source.value} is empty")
    return password


def _text_of(source: Given, encoding: str) -> str:
    """What is in the file, of which nothing is shown."""
    try:
        return source.value.read_text(encoding)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(source.place, f"{source.value} cannot be read: {reason}") from error
    except UnicodeDecodeError:
        raise ConfigError(source.place, f"{source.value} is no text") from None
