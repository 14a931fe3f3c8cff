"""TLS of a client: whom it trusts, what it shows, and what it says of a certificate it refuses."""

from __future__ import annotations

import hashlib
import os
import ssl
import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from batch_gateway.config_checks import PathLike, require_kinds, require_readable_file
from batch_gateway.errors import ConfigError
from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["OF_A_PROXY", "RefusedCertificateError", "TLSConfig", "TLSVersion"]

TLSVersion = Literal["1.2", "1.3"]

OF_A_PROXY = "proxy"
"""In the place of the settings' name, in a `RefusedCertificateError` about a proxy."""

_TLS_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_FINGERPRINT = rare_pattern(r"[0-9a-f]{64}")
_LABEL = r"[A-Za-z0-9_-]{1,63}"  # RFC 1035 §2.3.4
_HOST_NAME = rare_pattern(rf"(?!.{{254}}){_LABEL}(\.{_LABEL})*\.?|[0-9a-fA-F.]*:[0-9a-fA-F:.]+")


@dataclass(frozen=True, kw_only=True)
class TLSConfig:
    """How a TLS connection is verified and which client certificate it shows.

    Attributes:
        ca_file: PEM file of the authorities to trust instead of the system's.
        client_cert_file, client_key_file: PEM files for mutual TLS; both or neither.
        minimum_version, maximum_version: "1.2" or "1.3".
        insecure_skip_verify: accept any certificate. The client warns when it is built.
        pinned_certificate: the SHA-256 fingerprint of the one certificate to accept: 64 hex
            digits, with or without colons, as `openssl x509 -noout -fingerprint -sha256` prints
            it. Authority, names and dates are then not looked at.
        server_name: what to ask the server for (SNI) and what its certificate must name, instead
            of the host in the URL.
    """

    ca_file: PathLike | None = None
    client_cert_file: PathLike | None = None
    client_key_file: PathLike | None = None
    minimum_version: TLSVersion = "1.2"
    maximum_version: TLSVersion | None = None
    insecure_skip_verify: bool = False
    pinned_certificate: str | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        require_kinds(self, "tls.", but=("pinned_certificate",))
        if (self.client_cert_file is None) != (self.client_key_file is None):
            missing = "client_key_file" if self.client_key_file is None else "client_cert_file"
            raise ConfigError(
                f"tls.{missing}", "a client certificate and its key go together; give both"
            )
        for name in ("ca_file", "client_cert_file", "client_key_file"):
            require_readable_file(f"tls.{name}", getattr(self, name))
        for name in ("minimum_version", "maximum_version"):
            _require_tls_version(f"tls.{name}", getattr(self, name))
        if self.maximum_version is not None and self.maximum_version < self.minimum_version:
            raise ConfigError("tls.maximum_version", "is below tls.minimum_version")
        if self.pinned_certificate is not None:
            self._check_pin(self.pinned_certificate)
        if self.server_name is not None and not _HOST_NAME.fullmatch(self.server_name):
            raise ConfigError("tls.server_name", f"{self.server_name!r} is not a host name")

    def _check_pin(self, pin: object) -> None:
        field = "tls.pinned_certificate"
        # OpenSSL prints "sha256 Fingerprint=AB:CD…".
        text = pin.rpartition("=")[2] if isinstance(pin, str) else ""
        digits = text.replace(":", "").lower()
        if not _FINGERPRINT.fullmatch(digits):
            raise ConfigError(
                field, f"{pin!r} is not a SHA-256 fingerprint: 64 hex digits, colons allowed"
            )
        for name in ("insecure_skip_verify", "ca_file"):
            if getattr(self, name):
                raise ConfigError(field, f"decides alone; drop it or tls.{name}")
        # One spelling, so that configurations can be compared.
        object.__setattr__(self, "pinned_certificate", _spelled(bytes.fromhex(digits)))

    def ssl_context(self, settings: str = "tls") -> ssl.SSLContext:
        """A client context. Raises ConfigError naming the file that does not load.

        `settings` is what messages call this configuration. The context holds whatever
        connection is made with it to the pin and to `server_name`. A certificate that it
        refuses makes the handshake raise `RefusedCertificateError`.
        """
        context = self._context_with_authorities(settings)
        context.minimum_version = _TLS_VERSIONS[self.minimum_version]
        if self.maximum_version is not None:
            context.maximum_version = _TLS_VERSIONS[self.maximum_version]
        if self.insecure_skip_verify or self.pinned_certificate is not None:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert_file is not None:
            self._load_client_certificate(context, settings)
        return context

    def proxy_context(self) -> ssl.SSLContext:
        """A context for an `https://` proxy on the way: name, pin and client certificate are the
        gateway's alone, and `ca_file` is trusted beside the system's authorities.

        Raises as `ssl_context` does.
        """
        general = replace(
            self,
            client_cert_file=None,
            client_key_file=None,
            pinned_certificate=None,
            server_name=None,
        )
        context = general.ssl_context()
        # A proxy of the company's own may be vouched for by the one or the others.
        context.load_default_certs()
        context.sslobject_class = _connection_class(None, OF_A_PROXY)
        return context

    def _context_with_authorities(self, settings: str) -> ssl.SSLContext:
        context = _ClientContext(ssl.PROTOCOL_TLS_CLIENT)
        context.server_name = self.server_name
        context.sslobject_class = _connection_class(self.pinned_certificate, settings)
        # As `ssl.create_default_context` has it.
        if sys.version_info >= (3, 13):
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
        keys = os.environ.get("SSLKEYLOGFILE")
        if keys and not sys.flags.ignore_environment:
            context.keylog_filename = keys
        if self.ca_file is None:
            context.load_default_certs()
            if not self.insecure_skip_verify and self.pinned_certificate is None:
                _require_named_authorities(context)
            return context
        cafile = os.fspath(self.ca_file)
        try:
            context.load_verify_locations(cafile)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{settings}.ca_file", f"{cafile} is not a PEM file: {error}"
            ) from error
        return context

    def _load_client_certificate(self, context: ssl.SSLContext, settings: str) -> None:
        assert self.client_cert_file is not None  # noqa: S101 - checked by the caller
        try:
            context.load_cert_chain(self.client_cert_file, self.client_key_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(
                f"{settings}.client_cert_file",
                f"{os.fspath(self.client_cert_file)} and its key do not load: {error}",
            ) from error


class RefusedCertificateError(ssl.SSLCertVerificationError):
    """The server's certificate was not accepted.

    Attributes:
        seen: its SHA-256 fingerprint, empty where this Python does not tell.
        pinned: that of the one that would have been accepted, or None.
        wrong_name: whether its only fault is to be for another host.
        settings: what the settings are called that decide about it.
    """

    seen = ""
    settings = "tls"
    pinned: str | None = None
    wrong_name = False


class _ClientContext(ssl.SSLContext):
    """A context that may ask for another name than that of the host."""

    server_name: str | None = None

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        if self.server_name is not None:
            options["server_hostname"] = self.server_name
        connection = super().wrap_bio(*arguments, **options)
        # Called for each read and request; these methods of SSLObject call those and do no more.
        inner: Any = getattr(connection, "_sslobj", None)
        if inner is not None:
            for name in ("read", "write", "pending"):
                setattr(connection, name, getattr(inner, name))
        return connection


class _Connection(ssl.SSLObject):
    """The TLS state of one connection; says more about a certificate that is refused."""

    pin: ClassVar[str | None] = None
    settings: ClassVar[str] = "tls"

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise self._refusal(error, _fingerprint(_unverified(self))) from error
        if self.pin is not None:
            seen = _fingerprint(self.getpeercert(binary_form=True))
            if seen != self.pin:
                raise self._refusal(ssl.SSLCertVerificationError(1, "not the pinned one"), seen)

    def _refusal(self, error: ssl.SSLCertVerificationError, seen: str) -> RefusedCertificateError:
        refusal = RefusedCertificateError(*error.args)
        refusal.verify_code = getattr(error, "verify_code", 0)
        refusal.verify_message = getattr(error, "verify_message", str(error))
        refusal.reason = "CERTIFICATE_VERIFY_FAILED"
        refusal.seen = seen
        refusal.pinned = self.pin
        refusal.settings = self.settings
        refusal.wrong_name = refusal.verify_code in _WRONG_NAME
        return refusal


# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_WRONG_NAME = (62, 64)


def _connection_class(pin: str | None, settings: str) -> type[_Connection]:
    # A context is given a class, and there is no other way to tell its connections something.
    return type("_Connection", (_Connection,), {"pin": pin, "settings": settings})


def _unverified(connection: ssl.SSLObject) -> bytes | None:
    """The certificate of a handshake that failed for it. Public in Python from 3.13 on."""
    if sys.version_info >= (3, 13):
        chain: list[bytes] = connection.get_unverified_chain()
        return chain[0] if chain else None
    try:
        certificates: Any = getattr(connection, "_sslobj").get_unverified_chain()  # noqa: B009
        return bytes(ssl.PEM_cert_to_DER_cert(certificates[0].public_bytes()))
    except (AttributeError, IndexError, TypeError, ValueError):
        return None


def _fingerprint(certificate: bytes | None) -> str:
    return "" if certificate is None else _spelled(hashlib.sha256(certificate).digest())


def _spelled(digest: bytes) -> str:
    return digest.hex(":").upper()


def _require_named_authorities(context: ssl.SSLContext) -> None:
    """OpenSSL reads these two variables, and passes over in silence what is not there."""
    file, folders = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if file:
        try:
            context.load_verify_locations(file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if isinstance(error, FileNotFoundError) else "not a PEM file"
            raise ConfigError("SSL_CERT_FILE", _cure(file, reason)) from error
    if folders and not any(map(os.path.isdir, folders.split(os.pathsep))):
        raise ConfigError("SSL_CERT_DIR", _cure(folders, "No such directory"))


def _cure(named: str, reason: str | None) -> str:
    return f"{named}: {reason}. Unset the variable, or give the authorities as tls.ca_file"


def _require_tls_version(name: str, version: str | None) -> None:
    if version is not None and version not in tuple(_TLS_VERSIONS):
        raise ConfigError(name, f"{version!r} is not '1.2' or '1.3'")
