"""What a configuration's requests are sent by: the transport, or an endpoint picker's."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.errors import ConfigError
from batch_gateway.extras import command_for
from batch_gateway.http.exchange import HTTPExchanger
from batch_gateway.http.proxies import proxy_of
from batch_gateway.picker.endpoint_picker_config import EndpointPickerConfig

__all__ = ["InsecureTLSWarning", "build_exchanger"]


class InsecureTLSWarning(UserWarning):
    """TLS certificates are not verified, because the configuration says so."""


def build_exchanger(config: HTTPInferenceClientConfig) -> HTTPExchanger:
    """What posts to the gateway of `config`.

    Warns with InsecureTLSWarning when certificates will not be verified. Raises ConfigError when
    it needs an extra that is not installed, or names a key or certificate file that does not load.
    """
    for setting, peer in _unverified(config):
        warnings.warn(
            f"{setting}.insecure_skip_verify is set: anyone who can intercept connections to"
            f" {peer} can read and change them, API key included",
            InsecureTLSWarning,
            stacklevel=2,
        )
    if config.uses_endpoint_picker:
        return _endpoint_picker_exchanger(config)
    from batch_gateway.http.native import NativeExchanger  # noqa: PLC0415

    return NativeExchanger(config)


def _unverified(config: HTTPInferenceClientConfig) -> Iterator[tuple[str, str]]:
    """Which settings let any certificate pass, and whose."""
    if config.tls.insecure_skip_verify and config.url.scheme in ("https", "grpcs"):
        yield "tls", config.url.netloc
    proxy = proxy_of(config) if config.tls.insecure_skip_verify else None
    if proxy is not None and proxy.tls:
        yield "tls", f"the proxy {proxy.address}"
    picker = config.endpoint_picker
    pods = None if picker is None or not config.uses_endpoint_picker else picker.pod_tls
    if pods is not None and pods.insecure_skip_verify:
        yield "pod_tls", f"the pods of {config.url.netloc}"


def _endpoint_picker_exchanger(config: HTTPInferenceClientConfig) -> HTTPExchanger:
    try:
        from batch_gateway.picker.exchanger import (  # noqa: PLC0415
            EndpointPickerExchanger,
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("google", "hpack"):
            raise
        raise ConfigError(
            "base_url",
            f"{config.url.scheme}:// needs protobuf and hpack:"
            f" install them with `{command_for('grpc')}`",
        ) from error
    return EndpointPickerExchanger(config, config.endpoint_picker or EndpointPickerConfig())
