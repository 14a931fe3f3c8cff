"""How `batches` reaches its server, which is another than the gateway of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError
from batch_gateway.settings.gateway_configs import gateway_config
from batch_gateway.settings.layers import Layers
from batch_gateway.settings.openai_variables import OPENAI, as_openai_sdk
from batch_gateway.settings.setting import ConfigFile, Given, Setting
from batch_gateway.settings.table import SETTINGS

__all__ = ["ACCESS", "SERVER", "ServerAccess", "server_access"]

_KEYS = ("server_api_key_file", "server_api_key_env", "server_api_key")
_OWN_WAYS = ("headers",)
_WAYS = ("tls_ca_file", "tls_client_cert_file", "tls_client_key_file", "tls_insecure_skip_verify",
         "proxy")  # fmt: skip


def _rows(*names: str) -> tuple[Setting, ...]:
    return tuple(SETTINGS[name] for name in names)


SERVER = _rows("server", "tenant", "tenant_header")
ACCESS = _rows("server_api_key_file", "server_api_key_env", *_OWN_WAYS, *_WAYS)


class ServerAccess(msgspec.Struct, frozen=True):
    """A batch server, and how many seconds it may be away once it has answered."""

    config: HTTPInferenceClientConfig
    patience: float


def server_access(flags: Mapping[str, Any], environment: Mapping[str, str]) -> ServerAccess:
    """From flags and variables, and no file: one for runs has the key of a gateway in it.

    That key is never sent to a batch server, nor are headers that were not given as a flag. Raises
    ConfigError.
    """
    layers = Layers("batches", flags, environment, ConfigFile())
    given = layers.given
    asked = given.get("server") or Given(SETTINGS["server"].default_value, "--server")
    way = {name: given[name] for name in _WAYS if name in given}
    own = {name: given[name] for name in _OWN_WAYS if layers.is_flag(name)}
    key = _key(layers)
    if asked.value == OPENAI:
        sdk = as_openai_sdk(asked, environment)
        asked = sdk.pop("gateway")
        key = key or sdk
    if "tenant" in given:
        header = given.get("tenant_header")
        name = header.value if header else SETTINGS["tenant_header"].default_value
        headers: Mapping[str, str] = own["headers"].value if own else {}
        own["headers"] = Given({**headers, name: given["tenant"].value}, given["tenant"].place)
    patience = given.get("patience") or Given(SETTINGS["patience"].default_value, "")
    return ServerAccess(gateway_config(asked, {**way, **own, **key}), patience.value)


def _key(layers: Layers) -> dict[str, Given]:
    """The key's source, under the name that it has of a gateway; a flag wins over a variable."""
    found = {name: layers.given[name] for name in _KEYS if name in layers.given}
    by_flag = {name: one for name, one in found.items() if layers.is_flag(name)}
    chosen = by_flag or found
    if len(chosen) > 1:
        first, second, *_ = chosen.values()
        raise ConfigError(second.place, f"gives a key, as {first.place} does; keep one")
    return {name.removeprefix("server_"): one for name, one in chosen.items()}
