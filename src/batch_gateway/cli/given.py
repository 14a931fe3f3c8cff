"""What a user gave, and where: the values behind flags, variables and config files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

__all__ = ["TOTAL_CONCURRENCY", "ConfigFile", "Given", "ModelGateway", "flag_name"]

TOTAL_CONCURRENCY = "total_concurrency"
"""The setting for requests in flight over all gateways; only files have it."""


@dataclass(frozen=True, slots=True)
class Given:
    """A value and where it was given, as messages name it: "gateway.yaml:3: timeout", "--timeout".

    The value is kept out of the repr: it may be a key.
    """

    value: Any = field(repr=False)
    place: str


class ModelGateway(msgspec.Struct, frozen=True):
    """One entry of `model_gateways`.

    `own` is None for the short form, which shares the run's settings; otherwise it holds what the
    entry sets itself.
    """

    url: Given
    own: Mapping[str, Given] | None = None


class ConfigFile(msgspec.Struct, frozen=True):
    """What a file says, under our own setting names."""

    values: Mapping[str, Given] = msgspec.field(default_factory=dict[str, Given])
    model_gateways: Mapping[str, ModelGateway] = msgspec.field(
        default_factory=dict[str, ModelGateway]
    )


def flag_name(setting: str) -> str:
    """The flag of a setting: "tls_ca_file" is "--tls-ca-file"."""
    return "--header" if setting == "headers" else "--" + setting.replace("_", "-")
