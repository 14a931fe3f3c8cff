"""From settings to the client's configuration of each gateway, with errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from batch_gateway.cli.config_keys import AUTO
from batch_gateway.cli.failure import CommandFailure
from batch_gateway.cli.given import Given, flag_name
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.client.for_batches import DEFAULT_PATIENCE, patient_breaker
from batch_gateway.client.layers.cache.place import check_place
from batch_gateway.client.layers.cache.policy import CacheConfig
from batch_gateway.client.layers.coalesce.policy import CoalescePolicy
from batch_gateway.client.layers.concurrency.gateway_metrics import GatewayMetrics
from batch_gateway.client.layers.concurrency.policy import AdaptiveConcurrency
from batch_gateway.client.layers.rate_limit import RateLimit
from batch_gateway.client.layers.retry import RetryPolicy
from batch_gateway.client.layers.scheduling import SchedulingHints
from batch_gateway.errors import ConfigError
from batch_gateway.http.tls import TLSConfig
from batch_gateway.picker.config import EndpointPickerConfig

__all__ = [
    "API_KEY_SETTINGS",
    "METRICS_SETTINGS",
    "OWN_TO_A_GATEWAY",
    "PICKER_SETTINGS",
    "gateway_config",
    "naming_the_setting",
]

API_KEY_SETTINGS = ("api_key", "api_key_file", "api_key_env")

_PLAIN = (
    "timeout", "connect_timeout", "max_response_bytes", *API_KEY_SETTINGS, "api_key_header",
    "unix_socket", "proxy", "transport",
)  # fmt: skip
_RETRY = ("max_retries", "initial_backoff", "max_backoff")
# `idle_timeout` of the client itself is another one: how long an unused connection is kept.
_STREAMING = {
    "stream_upstream": "stream_upstream",
    "idle_timeout": "stream_idle_timeout",
    "max_event_bytes": "max_event_bytes",
}
_RATE_LIMIT = {
    "rpm": "requests_per_minute",
    "tpm": "tokens_per_minute",
    "learn_rate_limits": "learn",
}
_SCHEDULING = {
    "inference_objective": "objective",
    "fairness_id": "fairness_id",
    "inference_ttl": "ttl",
}
_CACHE = {
    "cache": "path",
    "cache_max_size": "max_bytes",
    "cache_max_age": "max_age",
    "cache_namespace": "namespace",
}
_COALESCE = {"coalesce": "max_requests", "coalesce_wait": "max_wait"}
_TLS = {
    "tls_ca_file": "ca_file",
    "tls_client_cert_file": "client_cert_file",
    "tls_client_key_file": "client_key_file",
    "tls_insecure_skip_verify": "insecure_skip_verify",
    "tls_min_version": "minimum_version",
    "tls_pin": "pinned_certificate",
    "tls_server_name": "server_name",
}
_POD_TLS = {"pod_tls": "on"} | {
    f"pod_{name}": field for name, field in _TLS.items() if name != "tls_min_version"
}
_METRICS = {
    "gateway_metrics": "urls",
    "gateway_metrics_interval": "interval",
    "gateway_metrics_token_file": "token_file",
}
_PICKER = {
    "pick_timeout": "pick_timeout",
    "endpoint_subset": "endpoint_subset",
    "picker_health": "health",
    "picker_authority": "authority",
}
METRICS_SETTINGS = frozenset(_METRICS)
PICKER_SETTINGS = (*_PICKER, *_POD_TLS)
# A key, and headers that may be one, go to the gateway they were written for and to no other, as
# metrics speak of no other.
OWN_TO_A_GATEWAY = frozenset(
    {*API_KEY_SETTINGS, "api_key_header", "headers", *_SCHEDULING, *_METRICS, *_PICKER}
    - {"pick_timeout"}
)
_SETTING_OF_FIELD = {
    "base_url": "gateway",
    **{f"retry.{name}": name for name in _RETRY},
    **{client_field: name for name, client_field in _STREAMING.items()},
    **{f"tls.{client_field}": name for name, client_field in _TLS.items()},
    **{f"pod_tls.{client_field}": name for name, client_field in _POD_TLS.items()},
    **{f"cache.{client_field}": name for name, client_field in _CACHE.items()},
    **{f"coalesce.{client_field}": name for name, client_field in _COALESCE.items()},
    **{f"gateway_metrics.{client_field}": name for name, client_field in _METRICS.items()},
    **{f"rate_limit.{client_field}": name for name, client_field in _RATE_LIMIT.items()},
    **{f"scheduling.{client_field}": name for name, client_field in _SCHEDULING.items()},
    **{f"endpoint_picker.{client_field}": name for name, client_field in _PICKER.items()},
}

# What stands in quotes is what the user wrote.
_CLIENT_FIELD = re.compile(
    rf"""'[^']*'|"[^"]*"|\b(?P<field>{"|".join(map(re.escape, _SETTING_OF_FIELD))})\b"""
)


def gateway_config(url: Given, given: Mapping[str, Given]) -> HTTPInferenceClientConfig:
    """The client's configuration, checked down to key files and certificates.

    Raises CommandFailure that names the flag, variable or line of the config file.
    """
    with naming_the_setting({**given, "gateway": url}):
        config = HTTPInferenceClientConfig(
            url.value,
            retry=RetryPolicy(**_chosen(given, {name: name for name in _RETRY})),
            rate_limit=_rate_limit(given),
            scheduling=_scheduling(given),
            concurrency=_concurrency(given),
            circuit_breaker=patient_breaker(
                given["patience"].value if "patience" in given else DEFAULT_PATIENCE
            ),
            cache=_cache(given),
            coalesce=_coalesce(given),
            tls=TLSConfig(**_chosen(given, _TLS)),
            endpoint_picker=_endpoint_picker(given),
            **_with_first(given, _STREAMING),
            headers=_headers(given),
            **_chosen(given, {name: name for name in _PLAIN}),
        )
        config = config.with_resolved_api_key()
        if config.tls != TLSConfig():
            config.tls.ssl_context()
    return config


@contextmanager
def naming_the_setting(given: Mapping[str, Given]) -> Generator[None]:
    """Turns a ConfigError into a CommandFailure that says where the setting was given."""
    try:
        yield
    except ConfigError as error:
        client_field = error.field.partition("[")[0]
        name = _SETTING_OF_FIELD.get(client_field, client_field)
        place = given[name].place if name in given else _place(name)
        detail = error.field.removeprefix(client_field)
        raise CommandFailure(f"{place}{detail}: {_in_flags(error.problem)}") from error


def _place(name: str) -> str:
    """The flag of a setting that is not given; an environment variable has no flag."""
    return name if name.isupper() else flag_name(name)


def _in_flags(problem: str) -> str:
    """`problem` with the client's fields in it as the flags that they are here."""

    def shown(found: re.Match[str]) -> str:
        return flag_name(_SETTING_OF_FIELD[found[0]]) if found["field"] else found[0]

    return _CLIENT_FIELD.sub(shown, problem)


def _chosen(given: Mapping[str, Given], fields: Mapping[str, str]) -> dict[str, Any]:
    return {fields[name]: given[name].value for name in fields if name in given}


def _cache(given: Mapping[str, Given]) -> CacheConfig | None:
    chosen = _with_first(given, _CACHE)
    if not chosen:
        return None
    config = CacheConfig(**chosen)
    check_place(Path(config.path))
    return config


def _coalesce(given: Mapping[str, Given]) -> CoalescePolicy | None:
    chosen = _with_first(given, _COALESCE)
    return CoalescePolicy(**chosen) if chosen else None


def _with_first(given: Mapping[str, Given], fields: Mapping[str, str]) -> dict[str, Any]:
    """Settings of which the first switches a feature on and the others only adjust it."""
    first, *others = fields
    if first not in given:
        for name in others:
            if name in given:
                raise ConfigError(name, f"does nothing without {flag_name(first)}")
        return {}
    return _chosen(given, fields)


def _concurrency(given: Mapping[str, Given]) -> AdaptiveConcurrency | None:
    """A policy where there are metrics to heed; `paced` says how many there may be."""
    chosen = _with_first(given, _METRICS)
    if not chosen:
        return None
    if "concurrency" in given and given["concurrency"].value != AUTO:
        raise ConfigError("gateway_metrics.urls", "does nothing where a number is set; use auto")
    return AdaptiveConcurrency(gateway_metrics=GatewayMetrics(**chosen))


def _endpoint_picker(given: Mapping[str, Given]) -> EndpointPickerConfig | None:
    chosen = _chosen(given, _PICKER)
    subset = chosen.get("endpoint_subset")
    if isinstance(subset, str):
        chosen["endpoint_subset"] = (subset,)
    pod_tls = _pod_tls(given)
    if pod_tls is not None:
        chosen["pod_tls"] = pod_tls
    return EndpointPickerConfig(**chosen) if chosen else None


def _pod_tls(given: Mapping[str, Given]) -> TLSConfig | None:
    chosen = _with_first(given, _POD_TLS)
    if not chosen.pop("on", False):
        return None
    try:
        tls = TLSConfig(**chosen)
        tls.ssl_context("tls")
    except ConfigError as error:
        raise ConfigError(f"pod_{error.field}", error.problem) from error
    return tls


def _headers(given: Mapping[str, Given]) -> dict[str, str]:
    return given["headers"].value if "headers" in given else {}


def _rate_limit(given: Mapping[str, Given]) -> RateLimit | None:
    chosen = _chosen(given, _RATE_LIMIT)
    return RateLimit(**chosen) if any(chosen.values()) else None


def _scheduling(given: Mapping[str, Given]) -> SchedulingHints | None:
    """Told to a gateway when there is something to tell; a deadline is."""
    chosen = _chosen(given, _SCHEDULING)
    return SchedulingHints(**chosen) if chosen or "deadline" in given else None
