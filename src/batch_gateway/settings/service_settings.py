"""Flags, variables, a config file and defaults, merged into what a service needs beside a run's."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.settings.layers import Layers
from batch_gateway.settings.service_table import FILE_CLIENT, PROCESSOR_FIELDS, SERVER_FIELDS
from batch_gateway.settings.setting import ConfigFile, Given
from batch_gateway.settings.table import SETTINGS
from batch_gateway.storage.store_address import StoreAddress

__all__ = ["ServiceSettings", "naming_the_service_setting", "resolve_service"]

_FIELDS = {field: name for name, field in {**SERVER_FIELDS, **PROCESSOR_FIELDS}.items()}
_KEY_SOURCES = ("header_keys_file", "header_keys_env")


class ServiceSettings(msgspec.Struct, frozen=True):
    """What a service was asked to be.

    Attributes:
        data: the folder of its records, and of its files where there is no `store`.
        server, processor: fields of ServerConfig and ProcessorConfig, where they were given.
        given: where.
    """

    data: Path
    store: StoreAddress | None
    server: Mapping[str, Any]
    processor: Mapping[str, Any]
    given: Mapping[str, Given]


def resolve_service(
    flags: Mapping[str, Any], environment: Mapping[str, str], file: ConfigFile
) -> ServiceSettings:
    """Raises ConfigError."""
    given = Layers("serve", flags, environment, file).given
    for name in _KEY_SOURCES:
        if name in given and "pass_through_headers" not in given:
            raise ConfigError(given[name].place, "does nothing without --pass-through-header")
    server = {field: given[name].value for name, field in SERVER_FIELDS.items() if name in given}
    keys = _header_keys(given, environment)
    data = given.get("data") or Given(SETTINGS["data"].default_value, "--data")
    return ServiceSettings(
        data.value,
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
        try:
            text = source.value.read_text("ascii")
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(source.place, f"{source.value} cannot be read: {reason}") from error
        except UnicodeDecodeError:
            raise ConfigError(source.place, f"{source.value} has no keys in it") from None
    keys = [key for key in re.split(r"[\s,]+", text) if key]
    if not keys:
        raise ConfigError(source.place, f"{source.value} is empty")
    return keys
