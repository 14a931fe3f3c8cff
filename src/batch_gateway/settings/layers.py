"""What flags, variables and a config file give, laid over each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from batch_gateway.errors import ConfigError
from batch_gateway.settings.openai_variables import OPENAI, as_openai_sdk
from batch_gateway.settings.setting import ConfigFile, Given, ModelGateway
from batch_gateway.settings.table import API_KEY_SETTINGS, SETTINGS
from batch_gateway.settings.variables import from_variables

__all__ = ["Layers", "require_what_is_needed"]

_FLAGS, _FILE, _NOWHERE = 0, 2, 3


class Layers:
    """Settings by name, each from the highest layer that gives it: flags, variables, the file.

    Attributes:
        given: the settings of the run and of its default gateway.
        entries: gateways of single models.
    """

    def __init__(
        self,
        command: str,
        flags: Mapping[str, Any],
        environment: Mapping[str, str],
        file: ConfigFile,
    ) -> None:
        """Raises ConfigError for a wrong variable, and for two keys in one layer."""
        from_flags = {
            name: Given(value, SETTINGS[name].shown_name)
            for name, value in flags.items()
            if value is not None
        }
        self._layers = (from_flags, from_variables(environment, command), file.values)
        self.given: dict[str, Given] = {}
        self.entries = dict(file.model_gateways)
        for layer in reversed(self._layers):
            self._put_over(layer)
        self._choose_key(environment)

    def _put_over(self, layer: Mapping[str, Given]) -> None:
        over = dict(layer)
        if "model_gateways" in over:
            routes = over.pop("model_gateways")
            self.entries |= {
                model: ModelGateway(Given(url, f"{routes.place} {model}"))
                for model, url in routes.value.items()
            }
        if "headers" in over and "headers" in self.given:
            headers = _headers(self.given["headers"].value, over["headers"].value)
            over["headers"] = Given(headers, over["headers"].place)
        self.given |= over

    def _choose_key(self, environment: Mapping[str, str]) -> None:
        """The key's source from the first layer that has one: sources replace each other."""
        layers, gateway = self._layers, self.given.get("gateway")
        for name in API_KEY_SETTINGS:
            self.given.pop(name, None)
        if gateway is not None and gateway.value == OPENAI:
            # A key that is not given beside it is for some other gateway.
            sdk = as_openai_sdk(gateway, environment)
            layers = (layers[_FLAGS], sdk)
            self.given["gateway"] = sdk["gateway"]
        for layer in layers:
            sources = {name: layer[name] for name in API_KEY_SETTINGS if name in layer}
            if len(sources) > 1:
                first, second = list(sources.values())[:2]
                raise ConfigError(second.place, f"gives a key, as {first.place} does; keep one")
            if sources:
                self.given |= sources
                return

    def over_entries(self) -> dict[str, Given]:
        """What wins over the entry of a model in a file: flags and variables for every gateway."""
        return {
            name: given
            for name, given in self.given.items()
            if self._level(name) < _FILE and not SETTINGS[name].is_own
        }

    def is_above(self, name: str, other: str) -> bool:
        """Whether a setting was given in a higher layer than another one."""
        return self._level(name) < self._level(other)

    def is_flag(self, name: str) -> bool:
        return self._level(name) == _FLAGS

    def _level(self, name: str) -> int:
        return next((i for i, one in enumerate(self._layers) if name in one), _NOWHERE)


def require_what_is_needed(given: Mapping[str, Given], names: Iterable[str]) -> None:
    """Each of `names` that was given does something. Raises ConfigError.

    Of some settings the first switches a feature on and the others only adjust it.
    """
    for name in names:
        needed = SETTINGS[name].needs
        if name in given and needed and needed not in given:
            flag = SETTINGS[needed].shown_name
            raise ConfigError(given[name].place, f"does nothing without {flag}")


def _headers(base: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    replaced = {name.lower() for name in over}
    return {name: value for name, value in base.items() if name.lower() not in replaced} | dict(
        over
    )
