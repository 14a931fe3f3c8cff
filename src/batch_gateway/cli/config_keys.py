"""Every setting of `run`: its names in a config file, its flag, and how its value is read.

One table serves the config file, the flags and the error messages. Beside our own names it holds
those that processors of the same family use, so that their files are accepted as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from batch_gateway.byte_size import parse_byte_size
from batch_gateway.config_checks import require_count, require_number
from batch_gateway.durations import parse_duration
from batch_gateway.engine.failure_limit import FailureLimit
from batch_gateway.errors import ConfigError
from batch_gateway.http.proxy_url import Proxy

__all__ = [
    "AIMD_KEYS",
    "AUTO",
    "CONCURRENCY_KEYS",
    "CONCURRENCY_LIMIT",
    "GATEWAY_SETTINGS",
    "HEADER_VALUE",
    "PROCESSOR_SETTINGS",
    "RUN_SETTINGS",
    "TOP_LEVEL_ALIASES",
    "URL",
    "Parser",
    "Scalar",
    "Setting",
    "concurrency",
]


class Scalar(msgspec.Struct, frozen=True):
    """A value as it stands in a YAML file: resolved, and its text for what YAML resolves oddly."""

    value: object
    text: str
    folder: Path

    @property
    def shown(self) -> str:
        """With quotes where they are what is wrong."""
        return repr(self.value) if isinstance(self.value, str) else self.text


Parser = Callable[[str, Scalar], object]
"""Turns (field name, scalar) into a value; raises ConfigError with the field and the reason."""


def _text(field: str, scalar: Scalar) -> str:
    if not isinstance(scalar.value, str):
        raise ConfigError(field, f"{scalar.text} is not text; put it in quotes")
    return scalar.value


def _secret(field: str, scalar: Scalar) -> str:
    if not isinstance(scalar.value, str):
        raise ConfigError(field, "is not text; put it in quotes")
    return scalar.value


def _path(field: str, scalar: Scalar) -> Path:
    text = _text(field, scalar)
    if not text:
        raise ConfigError(field, "is empty; give a path")
    if "\0" in text:
        raise ConfigError(field, "has a zero byte in it, which no path can have")
    return scalar.folder / Path(text).expanduser()


def _duration(field: str, scalar: Scalar) -> float:
    return parse_duration(scalar.value, field)


def _rate(field: str, scalar: Scalar) -> float:
    value = scalar.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(field, f"{scalar.shown} is not a number above 0")
    require_number(field, value, above_zero=True, finite=True)
    return float(value)


def _size(field: str, scalar: Scalar) -> int:
    return parse_byte_size(scalar.value, field)


def _room(field: str, scalar: Scalar) -> int:
    room = parse_byte_size(scalar.value, field)
    require_count(field, room, minimum=1)
    return room


def _fraction(field: str, scalar: Scalar) -> float:
    value = scalar.value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(field, f"{scalar.shown} is not a number between 0 and 1")
    return float(value)


def _failures(field: str, scalar: Scalar) -> FailureLimit:
    return FailureLimit.parse(scalar.text, field)


def _switch(field: str, scalar: Scalar) -> bool:
    if not isinstance(scalar.value, bool):
        raise ConfigError(field, f"{scalar.shown} is not true or false")
    return scalar.value


def _count(minimum: int) -> Parser:
    def parse(field: str, scalar: Scalar) -> int:
        value = scalar.value
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise ConfigError(field, f"{scalar.shown} is not a whole number of at least {minimum}")
        return value

    return parse


def _port(field: str, scalar: Scalar) -> int:
    value = scalar.value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65_535:
        raise ConfigError(field, f"{scalar.shown} is not a port, 0 to 65535")
    return value


def _choice(*options: str) -> Parser:
    def parse(field: str, scalar: Scalar) -> str:
        if scalar.text not in options:
            raise ConfigError(field, f"{scalar.text} is not one of {', '.join(options)}")
        return scalar.text

    return parse


def _proxy(field: str, scalar: Scalar) -> str:
    text = _secret(field, scalar)  # it may hold a password
    if text != "env":
        try:
            Proxy.parse(text)
        except ConfigError as error:
            raise ConfigError(field, error.problem.replace("'env'", "env")) from error
    return text


AUTO = "auto"
"""A concurrency that is found by measuring."""

URL: Parser = _text
HEADER_VALUE: Parser = _secret
CONCURRENCY_LIMIT: Parser = _count(1)


def concurrency(field: str, scalar: Scalar) -> object:
    """A number, or "auto"."""
    return AUTO if scalar.text == AUTO else CONCURRENCY_LIMIT(field, scalar)


class Setting(msgspec.Struct, frozen=True):
    """One setting.

    Attributes:
        name: in a config file; its flag is the same with dashes.
        parse: reads a value of a config file.
        aliases: other names for it in a config file.
        several: a list of values is taken as well as one.
    """

    name: str
    parse: Parser
    aliases: tuple[str, ...] = ()
    several: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


# What belongs to one gateway: at the top of a file for the default gateway (with `url` called
# `gateway` there), and inside `global_inference_gateway` and the entries of `model_gateways`.
GATEWAY_SETTINGS: tuple[Setting, ...] = (
    Setting("timeout", _duration, ("request_timeout",)),
    Setting("connect_timeout", _duration),
    Setting("stream_upstream", _switch),
    Setting("idle_timeout", _duration),
    Setting("max_event_bytes", _size),
    Setting("max_response_bytes", _size),
    Setting("max_retries", _count(0)),
    Setting("initial_backoff", _duration),
    Setting("max_backoff", _duration),
    Setting("patience", _duration),
    Setting("cache", _path),
    Setting("cache_max_size", _size),
    Setting("cache_max_age", _duration),
    Setting("cache_namespace", _text),
    Setting("coalesce", _count(2)),
    Setting("coalesce_wait", _duration),
    Setting("api_key", _secret),
    Setting("api_key_file", _path),
    Setting("api_key_env", _text),
    Setting("api_key_header", _text),
    Setting("inference_objective", _text),
    Setting("fairness_id", _text),
    Setting("inference_ttl", _duration),
    Setting("rpm", _rate),
    Setting("tpm", _rate),
    Setting("learn_rate_limits", _switch),
    Setting("gateway_metrics", _text, several=True),
    Setting("gateway_metrics_interval", _duration),
    Setting("gateway_metrics_token_file", _path),
    Setting("tls_ca_file", _path, ("tls_ca_cert_file",)),
    Setting("tls_client_cert_file", _path),
    Setting("tls_client_key_file", _path),
    Setting("tls_insecure_skip_verify", _switch),
    Setting("tls_min_version", _choice("1.2", "1.3")),
    Setting("tls_pin", _text),
    Setting("tls_server_name", _text),
    Setting("pick_timeout", _duration),
    Setting("endpoint_subset", _text, several=True),
    Setting("picker_health", _text),
    Setting("picker_authority", _text),
    Setting("pod_tls", _switch),
    Setting("pod_tls_ca_file", _path),
    Setting("pod_tls_client_cert_file", _path),
    Setting("pod_tls_client_key_file", _path),
    Setting("pod_tls_insecure_skip_verify", _switch),
    Setting("pod_tls_pin", _text),
    Setting("pod_tls_server_name", _text),
    Setting("unix_socket", _path),
    Setting("proxy", _proxy),
    Setting("transport", _text),  # which there is one of by now; the client says so
)

# What belongs to the run as a whole. `fresh` and `retry_failed` are missing on purpose: written
# down in a file, they would throw results away at every resume.
RUN_SETTINGS: tuple[Setting, ...] = (
    Setting("gateway", URL, ("inference_gateway_url",)),
    Setting("output", _path),
    Setting("errors", _path),
    Setting("deadline", _duration),
    Setting("max_failures", _failures),
    Setting("ordered", _switch),
    Setting("max_bytes_in_flight", _room),
    Setting("order", _choice("prefix", "file")),
    Setting("isolate_models", _switch),
    Setting("json", _switch),
    Setting("quiet", _switch),
    Setting("metrics_port", _port),
    Setting("metrics_host", _text),
    Setting("otel", _switch),
    Setting("log_format", _choice("text", "json")),
    Setting("log_level", _choice("debug", "info", "warning", "error")),
    Setting("report", _path),
)

# Names of the original processor configuration for settings of the default gateway.
TOP_LEVEL_ALIASES: tuple[Setting, ...] = (
    Setting("timeout", _duration, ("inference_request_timeout",)),
    Setting("api_key", _secret, ("inference_api_key",)),
)

# For the processor alone: checked, and not used by `run`.
PROCESSOR_SETTINGS: tuple[Setting, ...] = (
    Setting("num_workers", _count(1)),
    Setting("poll_interval", _duration),
    Setting("task_wait_time", _duration),
)

CONCURRENCY_KEYS: tuple[Setting, ...] = (
    Setting("global", CONCURRENCY_LIMIT),
    Setting("per_endpoint", CONCURRENCY_LIMIT),
    Setting("recovery", _count(1)),
)

AIMD_KEYS: tuple[Setting, ...] = (
    Setting("enabled", _switch),
    Setting("min", _count(1)),
    Setting("backoff_factor", _fraction),
    Setting("additive_increase", _count(1)),
)
