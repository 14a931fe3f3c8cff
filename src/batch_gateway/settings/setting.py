"""A row of the table of settings, and a value with the place where a user gave it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from batch_gateway.errors import ConfigError
from batch_gateway.settings.kinds import Kind

__all__ = ["PREFIX", "ConfigFile", "Given", "ModelGateway", "Setting"]

PREFIX = "BATCH_GATEWAY_"


class Setting(msgspec.Struct, frozen=True):
    """One setting: everything that flags, variables, files, help and documentation say of it.

    Attributes:
        name: in a config file.
        kind: what its values are.
        help: one sentence.
        default: the value if none is given, as a user would write it.
        otherwise: what happens if none is given and it has no default, in words.
        field: what it is in HTTPInferenceClientConfig, with dots; empty if it is the run's.
        needs: the setting without which this one does nothing.
        is_own: it goes to the gateway that it was given for, and to no other.
        aliases: other names for it in a file, with dots for keys within keys.
        flag: empty for its name with dashes, None if it has none.
        short: another spelling of the flag.
        variable: empty for its name in capitals after BATCH_GATEWAY_.
        only: the commands that alone have use for it; empty for all of them.
        only_flag: what it would do in a file or a variable, where it must not stand therefore.
        is_hidden: it is accepted, and not shown.
        see: more for the documentation, in Markdown.
    """

    name: str
    kind: Kind
    help: str
    default: str = ""
    otherwise: str = ""
    field: str = ""
    needs: str = ""
    is_own: bool = False
    aliases: tuple[str, ...] = ()
    flag: str | None = ""
    short: str = ""
    variable: str = ""
    only: tuple[str, ...] = ()
    only_flag: str = ""
    is_hidden: bool = False
    see: str = ""

    @property
    def flag_name(self) -> str | None:
        """ "--tls-ca-file", or None."""
        return "--" + self.name.replace("_", "-") if self.flag == "" else self.flag

    @property
    def shown_name(self) -> str:
        """The flag, or the key in a file if it has none."""
        return self.flag_name or self.name

    @property
    def variables(self) -> tuple[str, ...]:
        """The names of its environment variable, the usual one first."""
        by_rule = PREFIX + self.name.upper()
        return (self.variable, by_rule) if self.variable else (by_rule,)

    @property
    def default_value(self) -> Any:
        """What holds if nobody says anything: None if that is said by nothing but words."""
        if self.default:
            return self.parse(self.name, self.default)
        return None if self.kind.metavar else False

    def is_of(self, command: str) -> bool:
        """Whether a command has use for it."""
        return not self.only or command in self.only

    def parse(self, place: str, text: str, folder: Path = Path()) -> Any:
        """One value. Relative paths are relative to `folder`. Raises ConfigError with `place`."""
        value = self.kind.parse(place, text)
        return folder / value if isinstance(value, Path) else value

    def parse_all(self, place: str, texts: Iterable[str]) -> Any:
        """A value for each text: a mapping of pairs, or else a tuple. Raises ConfigError."""
        if self.kind.several != "pairs":
            return tuple(self.parse(place, text) for text in texts)
        found: dict[str, Any] = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not name or not equals:  # and it is not shown: there may be a key in it
                raise ConfigError(place, f"must be {self.kind.metavar}")
            if name in found:
                raise ConfigError(place, f"{name} is given twice")
            found[name] = self.parse(place, value)
        return found


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
    """What a file says, under our own setting names; `notes` are about what does nothing."""

    values: Mapping[str, Given] = msgspec.field(default_factory=dict[str, Given])
    model_gateways: Mapping[str, ModelGateway] = msgspec.field(
        default_factory=dict[str, ModelGateway]
    )
    notes: tuple[str, ...] = ()
