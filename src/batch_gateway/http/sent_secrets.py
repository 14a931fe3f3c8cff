"""What a configuration sends that must not be shown again."""

from __future__ import annotations

from batch_gateway.http.origin_headers import origin_headers
from batch_gateway.http.proxies import proxy_of
from batch_gateway.http.redaction import Redactor, secrets_of_header, secrets_of_url
from batch_gateway.http.transport_config import TransportConfig

__all__ = ["redactor_of"]


def redactor_of(config: TransportConfig) -> Redactor:
    """For the API key, the credentials among the headers, and a proxy's password.

    Raises ConfigError when the API key's file or variable cannot be read.
    """
    secrets = [
        secret
        for name, value in origin_headers(config)
        for secret in secrets_of_header(name, value)
    ]
    proxy = proxy_of(config)
    return Redactor([*secrets, *(secrets_of_url(proxy.url) if proxy else ())])
