"""Certificates of simulated servers, from PEM files."""

from __future__ import annotations

import ssl

from batch_gateway.config_checks import PathLike, require_readable_file
from batch_gateway.errors import ConfigError

__all__ = ["require_certificates", "server_context"]


def require_certificates(
    certificate: PathLike | None, key: PathLike | None, client_ca: PathLike | None
) -> None:
    """Raises ConfigError unless the files are there, and all that go together."""
    files = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": client_ca}
    for name, path in files.items():
        require_readable_file(name, path)
    if (certificate is None) != (key is None):
        missing = "tls_key" if key is None else "tls_certificate"
        raise ConfigError(missing, "a certificate and its key go together; give both")
    if client_ca is not None and certificate is None:
        raise ConfigError("tls_client_ca", "needs tls_certificate and tls_key")


def server_context(
    certificate: PathLike | None, key: PathLike | None, client_ca: PathLike | None
) -> ssl.SSLContext | None:
    """None without a certificate. Raises ConfigError for files that do not load."""
    if certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError("tls_certificate", f"it and its key do not load: {error}") from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError("tls_client_ca", f"is not a PEM file: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context
