"""From settings to the client's configuration of each gateway, with errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import patient_breaker
from batch_gateway.client.layers.cache.cache_config import CacheConfig
from batch_gateway.client.layers.cache.place import check_place
from batch_gateway.client.layers.coalesce.coalesce_policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling_hints import SchedulingHints
from batch_gateway.errors import ConfigError
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig
from batch_gateway.settings.kinds import AUTO
from batch_gateway.settings.layers import require_what_is_needed
from batch_gateway.settings.setting import Given
from batch_gateway.settings.table import GATEWAY_SETTINGS, SETTINGS
from batch_gateway.wire.json_schema import JSONSchema
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["gateway_config", "naming_the_setting"]

_SETTING_OF_FIELD = {setting.field: name for name, setting in GATEWAY_SETTINGS.items()}
# What is a word of the language may be no field, and what stands in quotes is what the user wrote.
_NAMES = "|".join(re.escape(field) for field in _SETTING_OF_FIELD if re.search("[_.]", field))
_CLIENT_FIELD = rare_pattern(rf"""'[^']*'|"[^"]*"|\b(?P<field>{_NAMES})\b""")


def gateway_config(url: Given, given: Mapping[str, Given]) -> HTTPInferenceClientConfig:
    """The client's configuration, checked down to key files and certificates.

    Raises ConfigError that names the flag, variable or line of the config file.
    """
    require_what_is_needed(given, GATEWAY_SETTINGS)
    with naming_the_setting({**given, "gateway": url}):
        # The gateway's own fields are under "".
        parts: dict[str, dict[str, Any]] = {}
        for name, setting in GATEWAY_SETTINGS.items():
            if name in given and name != "gateway":
                part, _, field = setting.field.rpartition(".")
                parts.setdefault(part, {})[field] = given[name].value
        config = HTTPInferenceClientConfig(
            url.value,
            retry=RetryPolicy(**parts.pop("retry", {})),
            rate_limit=_rate_limit(parts.pop("rate_limit", {})),
            scheduling=_scheduling(parts.pop("scheduling", {}), given),
            concurrency=_concurrency(parts.pop("gateway_metrics", {}), given),
            circuit_breaker=patient_breaker(**parts.pop("circuit_breaker", {})),
            cache=_cache(parts.pop("cache", {})),
            coalesce=CoalescePolicy(**parts.pop("coalesce")) if "coalesce" in parts else None,
            tls=TLSConfig(**parts.pop("tls", {})),
            json_schema=_json_schema(parts.get("", {}).pop("json_schema", None)),
            endpoint_picker=_endpoint_picker(
                parts.pop("endpoint_picker", {}), _pod_tls(parts.pop("pod_tls", {}))
            ),
            **parts.pop("", {}),
        ).with_resolved_api_key()
        if config.tls != TLSConfig():
            config.tls.ssl_context()
    return config


@contextmanager
def naming_the_setting(given: Mapping[str, Given]) -> Generator[None]:
    """Turns a ConfigError of the client into one that says where the setting was given."""
    try:
        yield
    except ConfigError as error:
        client_field = error.field.partition("[")[0]
        name = _SETTING_OF_FIELD.get(client_field, client_field)
        place = given[name].place if name in given else _place(name)
        detail = error.field.removeprefix(client_field)
        raise ConfigError(f"{place}{detail}", _in_flags(error.problem)) from error


def _place(name: str) -> str:
    """The flag of a setting that is not given; an environment variable has no flag."""
    return SETTINGS[name].shown_name if name in SETTINGS else name


def _in_flags(problem: str) -> str:
    """`problem` with the client's fields in it as the flags that they are here."""

    def shown(found: re.Match[str]) -> str:
        return _place(_SETTING_OF_FIELD[found[0]]) if found["field"] else found[0]

    return _CLIENT_FIELD.sub(shown, problem)


def _cache(chosen: Mapping[str, Any]) -> CacheConfig | None:
    if not chosen:
        return None
    config = CacheConfig(**chosen)
    check_place(Path(config.path))
    return config


def _concurrency(
    metrics: Mapping[str, Any], given: Mapping[str, Given]
) -> AdaptiveConcurrency | None:
    """A policy where there are metrics to heed; `paced` says how many there may be."""
    if not metrics:
        return None
    if "concurrency" in given and given["concurrency"].value != AUTO:
        raise ConfigError("gateway_metrics.urls", "does nothing where a number is set; use auto")
    return AdaptiveConcurrency(gateway_metrics=GatewayMetrics(**metrics))


def _json_schema(path: Path | None) -> JSONSchema | None:
    return None if path is None else JSONSchema.from_file(path)


def _endpoint_picker(
    chosen: Mapping[str, Any], pod_tls: TLSConfig | None
) -> EndpointPickerConfig | None:
    with_tls: dict[str, Any] = {**chosen} if pod_tls is None else {**chosen, "pod_tls": pod_tls}
    return EndpointPickerConfig(**with_tls) if with_tls else None


def _pod_tls(chosen: dict[str, Any]) -> TLSConfig | None:
    if not chosen.pop("on", False):
        return None
    try:
        tls = TLSConfig(**chosen)
        tls.ssl_context("tls")
    except ConfigError as error:
        raise ConfigError(f"pod_{error.field}", error.problem) from error
    return tls


def _rate_limit(chosen: Mapping[str, Any]) -> RateLimit | None:
    return RateLimit(**chosen) if any(chosen.values()) else None


def _scheduling(chosen: Mapping[str, Any], given: Mapping[str, Given]) -> SchedulingHints | None:
    """Told to a gateway when there is something to tell; a deadline is."""
    return SchedulingHints(**chosen) if chosen or "deadline" in given else None
