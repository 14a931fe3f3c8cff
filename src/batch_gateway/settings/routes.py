"""Which gateways a run has: one for all models, and those of single ones."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError
from batch_gateway.http.base_url import DEFAULT_BASE_URL
from batch_gateway.settings.gateway_configs import gateway_config
from batch_gateway.settings.layers import Layers
from batch_gateway.settings.openai_variables import KEY_VARIABLE
from batch_gateway.settings.setting import Given, ModelGateway
from batch_gateway.settings.table import API_KEY_SETTINGS, SETTINGS

__all__ = ["SIMULATOR", "Routes"]

SIMULATOR = "simulator"
"""The gateway that is simulated in the process of the run."""

_OF_METRICS = frozenset(
    n for n, one in SETTINGS.items() if one.field.startswith("gateway_metrics.")
)
_OF_PICKERS = tuple(
    n for n, one in SETTINGS.items() if one.field.startswith(("endpoint_picker.", "pod_tls."))
)
# The simulator is reached directly and needs no key, whatever the real gateway needs.
_NOT_FOR_SIMULATOR = _OF_METRICS | {*API_KEY_SETTINGS, "unix_socket", "proxy"}


class Routes(msgspec.Struct, frozen=True):
    """The gateways of a run.

    Attributes:
        default: for models that have none of their own; None when only single models have one.
        by_model: the others.
        uses_simulator: `default` is to be given the address of a simulator.
    """

    default: HTTPInferenceClientConfig | None
    by_model: Mapping[str, HTTPInferenceClientConfig]
    uses_simulator: bool

    @classmethod
    def of(cls, layers: Layers) -> Routes:
        """Raises ConfigError for a gateway that cannot be, or a setting that none of them heeds."""
        url, over = layers.given.get("gateway"), layers.over_entries()
        default = None if url is None else _default(url, layers.given)
        by_model = {
            model: gateway_config(entry.url, _for_entry(entry, layers.given, over))
            for model, entry in layers.entries.items()
        }
        routes = cls(default, by_model, url is not None and url.value == SIMULATOR)
        if url is None and by_model and "gateway_metrics" in layers.given:
            raise ConfigError(
                layers.given["gateway_metrics"].place,
                "these are the metrics of --gateway, and there is none; in a config file each of"
                " model_gateways may have gateway_metrics",
            )
        routes._refuse_picker_settings(layers)
        return routes

    @property
    def configs(self) -> frozenset[HTTPInferenceClientConfig]:
        """The different ones."""
        return frozenset(one for one in (self.default, *self.by_model.values()) if one is not None)

    def _refuse_picker_settings(self, layers: Layers) -> None:
        """Without a picker they do nothing, but for those that may be for another gateway."""
        if any(config.uses_endpoint_picker for config in self.configs):
            return
        for name in _OF_PICKERS:
            elsewhere = layers.is_above("gateway", name) or (
                self.uses_simulator and not layers.is_flag(name)
            )
            if name in layers.given and not elsewhere:
                raise ConfigError(
                    layers.given[name].place,
                    "does nothing without an endpoint picker, whose URL begins with grpc://",
                )


def _default(url: Given, given: Mapping[str, Given]) -> HTTPInferenceClientConfig:
    if url.value != SIMULATOR:
        return gateway_config(url, given)
    usable = {name: value for name, value in given.items() if name not in _NOT_FOR_SIMULATOR}
    if "cache" in usable:
        # Its address is another at every start; it is the same simulator all the same.
        usable.setdefault("cache_namespace", Given(SIMULATOR, url.place))
    return gateway_config(Given(DEFAULT_BASE_URL, url.place), usable)


def _for_entry(
    entry: ModelGateway, given: Mapping[str, Given], over: Mapping[str, Given]
) -> dict[str, Given]:
    if entry.own is None:
        same = "gateway" in given and given["gateway"].value == entry.url.value
        left_out = frozenset[str]() if same else _not_shared(given)
        return {name: value for name, value in given.items() if name not in left_out}
    shared = {name: value for name, value in given.items() if not SETTINGS[name].is_own}
    return {**shared, **entry.own, **over}


def _not_shared(given: Mapping[str, Given]) -> frozenset[str]:
    """What speaks of one gateway alone. The key of OpenAI's SDK goes where that would send it."""
    key = given.get("api_key_env")
    of_openai = key is not None and key.place == KEY_VARIABLE
    return _OF_METRICS | {"api_key_env"} if of_openai else _OF_METRICS
