"""Environment variables of our own: what they set, and those that mean nothing to us."""

from __future__ import annotations

import re
from collections.abc import Mapping

from batch_gateway.errors import ConfigError
from batch_gateway.settings.nearest import nearest
from batch_gateway.settings.setting import PREFIX, Given, Setting
from batch_gateway.settings.table import SETTINGS

__all__ = ["from_variables", "unknown_variables"]

# What Kubernetes puts into every container for each Service of its namespace, and Docker for each
# link: those of a Service batch-gateway or batch-gateway-metrics begin as ours do.
_OF_A_SERVICE = re.compile(
    r".*_SERVICE_HOST|.*_SERVICE_PORT(_.*)?|.*_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?"
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def from_variables(environment: Mapping[str, str], command: str) -> dict[str, Given]:
    """What variables give of a command's settings, by name. An empty variable gives nothing.

    Raises ConfigError that names the variable.
    """
    found: dict[str, Given] = {}
    for name, setting in SETTINGS.items():
        for variable in setting.variables:
            text = _ours(environment, variable)
            if not text or not setting.is_of(command):
                continue
            value = _value(setting, variable, text)
            if name in found and found[name].value != value:
                raise ConfigError(variable, f"says something else than {found[name].place}")
            found.setdefault(name, Given(value, variable))
    return found


def unknown_variables(environment: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each variable that looks like one of ours and is none."""
    known = {
        variable.removeprefix(PREFIX): variable
        for setting in SETTINGS.values()
        for variable in setting.variables
    }
    found: list[str] = []
    for name in environment:
        rest = name.removeprefix(PREFIX)
        if name.startswith(PREFIX) and rest not in known and _ours(environment, name):
            near = known.get(nearest(rest, known))
            hint = f"; did you mean {near}?" if near else ""
            found.append(f"{name} is set, and is the variable of no setting{hint}")
    return tuple(found)


def _ours(environment: Mapping[str, str], name: str) -> str:
    """The text of a variable; empty where it is not set, or another program's."""
    text = environment.get(name, "").strip()
    is_link = name.endswith("_PORT") and _ADDRESS.match(text)
    return "" if is_link or _OF_A_SERVICE.fullmatch(name) else text


def _value(setting: Setting, variable: str, text: str) -> object:
    if setting.only_flag:
        raise ConfigError(
            variable, f"is for the command line alone: in a variable it {setting.only_flag}"
        )
    if not setting.kind.several:
        return setting.parse(variable, text)
    # A value may have commas in it where each stands on a line of its own.
    texts = text.splitlines() if "\n" in text else text.split(",")
    return setting.parse_all(variable, (one.strip() for one in texts if one.strip()))
