"""Variables of other programs: which would have helped where they were not asked for."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.engine.progress import RunSummary
from batch_gateway.errors import (
    AuthenticationError,
    ErrorCategory,
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    TLSError,
)
from batch_gateway.http.no_proxy import is_exempt
from batch_gateway.http.target import Target
from batch_gateway.settings.openai_variables import KEY_VARIABLE
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["unused_at_the_end", "unused_variables"]

_REFUSED_KEY = rare_pattern(r"\bHTTP 40[13]\b")
_NO_TLS = "WRONG_VERSION_NUMBER"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


def _unused_key(environment: Mapping[str, str], used: str | None) -> str:
    """For a gateway that refuses the key `used`: whether there is another, or none was sent."""
    key = _set(environment, KEY_VARIABLE)
    if not key and used is None:
        return "No key was sent: put it in BATCH_GATEWAY_API_KEY, or in a file for --api-key-file"
    if not key or key == used:
        return ""
    return f"{KEY_VARIABLE} is set, and not sent unless asked for: --api-key-env {KEY_VARIABLE}"


def unused_at_the_end(
    summary: RunSummary,
    configs: Iterable[HTTPInferenceClientConfig],
    environment: Mapping[str, str],
) -> tuple[str, ...]:
    """What there is to say of a run in which some gateway refused its key."""
    refused = ErrorCategory.AUTH_ERROR in summary.figures.by_category
    if not refused and not _REFUSED_KEY.search(summary.gateway_problem or ""):
        return ()
    said = (_unused_key(environment, config.api_key) for config in configs)
    return tuple(dict.fromkeys(filter(None, said)))


def unused_variables(
    error: InferenceError, config: HTTPInferenceClientConfig, environment: Mapping[str, str]
) -> str:
    """Which variable another program would have used where `error` stopped us, or what else may be
    the cure; or nothing."""
    if isinstance(error, AuthenticationError):
        return _unused_key(environment, config.api_key)
    if isinstance(error, TLSError):
        if isinstance(error.cause, ssl.SSLCertVerificationError):
            return _unused_authorities(config, environment)
        return _plain(config) if getattr(error.cause, "reason", "") == _NO_TLS else ""
    if isinstance(error, GatewayConnectionError | RequestTimeoutError):
        return _unused_proxy(config, environment)
    return ""


def _plain(config: HTTPInferenceClientConfig) -> str:
    """The URL of a server that speaks no TLS."""
    if config.uses_endpoint_picker or config.proxy is not None:
        return ""
    return f"Try {config.base_url.replace('https://', 'http://', 1)}"


def _unused_authorities(config: HTTPInferenceClientConfig, environment: Mapping[str, str]) -> str:
    if config.tls.ca_file is not None or config.tls.pinned_certificate is not None:
        return ""
    for name in _CA_VARIABLES:
        path = _set(environment, name)
        if path:
            use = f"SSL_CERT_DIR={path}" if Path(path).is_dir() else f"--tls-ca-file {path}"
            return f"{name} is set, and not used unless asked for: {use}"
    return ""


def _unused_proxy(config: HTTPInferenceClientConfig, environment: Mapping[str, str]) -> str:
    direct = config.unix_socket is not None or config.uses_endpoint_picker
    target = Target.of(config)
    exempt = _set(environment, "no_proxy") or _set(environment, "NO_PROXY")
    if config.proxy is not None or direct or _is_this_machine(target.host):
        return ""
    if is_exempt(exempt, target.host, target.port):
        return ""
    for name in _proxy_variables(config.url.scheme):
        if _set(environment, name):
            return f"{name} is set, and proxies are not used unless asked for: --proxy env"
    return ""


def _proxy_variables(scheme: str) -> Iterator[str]:
    for name in (f"{scheme}_proxy", "all_proxy"):
        yield name.upper()
        yield name


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _set(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name, "").strip()
