"""What a failed dial or a broken connection means to the request that needed it."""

from __future__ import annotations

import errno
import os
import socket
import ssl

from batch_gateway.durations import format_duration
from batch_gateway.errors import (
    BadResponseError,
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    StaleConnectionError,
    TLSError,
)
from batch_gateway.http.tls import OF_A_PROXY, RefusedCertificateError
from batch_gateway.wire.refusals import RESPONSE_TOO_LARGE

__all__ = [
    "broken_error",
    "closed_error",
    "dial_error",
    "idle_error",
    "other_protocol",
    "require_unread",
    "too_large",
    "too_large_error",
]

_TLS_ALERT = b"\x15\x03"
_HTTP2_SETTINGS = b"\x00\x00"

STALE_SECONDS = 5.0
"""Whoever closes a kept-alive connection while a request is on its way to it has not read it. The
news of that takes as long as the network, or a busy event loop here; an answer may take longer."""


def dial_error(error: OSError, peer: str) -> InferenceError:
    """The error for a connection that could not be made: name, TCP or TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return TLSError(f"the certificate of {peer} was refused: {_refusal(error)}", cause=error)
    if _is_tls_failure(error):
        return TLSError(f"TLS with {peer} failed: {_tls_reason(error)}", cause=error)
    if isinstance(error, socket.gaierror):
        return GatewayConnectionError(
            f"the name of {peer} cannot be resolved: {error.strerror}", cause=error
        )
    if isinstance(error, ConnectionResetError | ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return GatewayConnectionError(
            f"{peer} closed the connection during the TLS handshake", cause=error
        )
    # The kernel gave up; its patience is usually longer than connect_timeout.
    if isinstance(error, TimeoutError):
        return RequestTimeoutError(f"connecting to {peer} timed out", cause=error)
    hint = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        hint = " (raise `ulimit -n`, or send fewer at a time: max_connections, --concurrency)"
    return GatewayConnectionError(f"cannot connect to {peer}: {_reason(error)}{hint}", cause=error)


def broken_error(
    cause: Exception | None, peer: str, *, reused: bool, received: int, progress: str
) -> InferenceError:
    """The error for a connection that ended under a request.

    `cause` is None when the peer closed in good order. `reused` says that the connection had
    brought an answer; `received` counts the bytes of the response that had arrived, and `progress`
    says it in words.
    """
    if not received and not reused and cause is not None and _is_tls_failure(cause):
        # A TLS 1.3 server looks at the client certificate after our side of the handshake is
        # done, so its refusal arrives where the response should be.
        return TLSError(f"TLS with {peer} failed: {_tls_reason(cause)}", cause=cause)
    how = "closed" if cause is None else "reset"
    detail = "" if cause is None or isinstance(cause, ConnectionError) else f" ({_reason(cause)})"
    if received:
        return GatewayConnectionError(
            f"{peer} {how} the connection during the response{detail}: {progress}", cause=cause
        )
    if reused:
        return StaleConnectionError(
            f"{peer} {how} a kept-alive connection before answering{detail}", cause=cause
        )
    return GatewayConnectionError(
        f"{peer} {how} the connection before answering{detail}", cause=cause
    )


def require_unread(stale: StaleConnectionError, after: float) -> None:
    """Raises GatewayConnectionError when a kept-alive connection was closed so many seconds after
    the request went out on it that the server may have worked on it.
    """
    if after > STALE_SECONDS:
        message = f"{stale.message}, {after:.0f} seconds after the request"
        raise GatewayConnectionError(message, cause=stale.cause) from stale.cause


def idle_error(peer: str, idle_timeout: float) -> RequestTimeoutError:
    """The error for a response that began and then stood still."""
    limit = format_duration(idle_timeout)
    return RequestTimeoutError(
        f"{peer} sent nothing for {limit} in the middle of its response"
        " (stream_idle_timeout, --idle-timeout)",
        code="idle_timeout",
    )


def too_large(limit: int) -> str:
    """How a sentence about a body over the limit ends."""
    return (
        f"is larger than max_response_bytes ({limit} bytes);"
        " raise that if such answers are wanted (--max-response-bytes)"
    )


def too_large_error(what: str, limit: int, status: int | None) -> BadResponseError:
    """The error for an answer over `max_response_bytes`: sent again, it would be as large.

    `what` is how the message begins, e.g. "the response of localhost:8000".
    """
    return BadResponseError(
        f"{what} {too_large(limit)}",
        is_retryable=False,
        status_code=status,
        code=RESPONSE_TOO_LARGE,
    )


def closed_error() -> GatewayConnectionError:
    """The error for requests that a closing client aborts or refuses."""
    return GatewayConnectionError("the client was closed", is_retryable=False)


def _refusal(error: ssl.SSLCertVerificationError) -> str:
    """Why, and what can be done about it."""
    why = error.verify_message.rstrip(".")
    if not isinstance(error, RefusedCertificateError):
        return why
    seen = f"its SHA-256 fingerprint is {error.seen}" if error.seen else ""
    if error.pinned is not None:
        return f"{why}: {seen}, and {error.pinned} is pinned. After a renewal, pin it anew"
    if error.settings == OF_A_PROXY:
        cure = "name it as its certificate does" if error.wrong_name else "trust its authority too"
        where = "" if error.wrong_name else " (tls.ca_file, --tls-ca-file)"
        return f"{why}. {cure.capitalize()}{where}"
    if error.wrong_name:
        other = f"give the name that it is for ({_setting(error, 'server_name')})"
    else:
        other = f"trust its authority ({_setting(error, 'ca_file')})"
    return (
        f"{why}. Either {other}; or, once you have checked by other means that it is the right"
        f" one{seen and f' ({seen})'}, pin it ({_setting(error, 'pinned_certificate', 'pin')});"
        f" or accept any ({_setting(error, 'insecure_skip_verify')})"
    )


def _setting(error: RefusedCertificateError, field: str, name: str = "") -> str:
    """A setting as the library has it, and as the command has it."""
    flag = f"{error.settings}_{name or field}".replace("_", "-")
    return f"{error.settings}.{field}, --{flag}"


def _is_tls_failure(error: BaseException) -> bool:
    # The peer hanging up is a network's failure or a server's, not a certificate's.
    return isinstance(error, ssl.SSLError) and not isinstance(
        error, ssl.SSLEOFError | ssl.SSLZeroReturnError
    )


def _tls_reason(error: BaseException) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    told = (reason or str(error)).replace("_", " ").lower()
    # OpenSSL's words for bytes that are no TLS at all.
    return f"{told}; it seems to speak no TLS here" if told == "wrong version number" else told


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):  # whose numbers are not the system's
        return _tls_reason(error)
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        # asyncio rewrites strerror to repeat the address, uvloop does not.
        return os.strerror(error.errno).lower()
    return str(error)[:120] or type(error).__name__


def other_protocol(first: bytes) -> str:
    """What the first bytes of something that is not HTTP/1 say about the mistake made."""
    if first.startswith(_TLS_ALERT):
        return "expects TLS: use https:// in its URL"
    if first.startswith(_HTTP2_SETTINGS) and first[3:4] == b"\x04":
        return "speaks only HTTP/2 on this port, perhaps gRPC; its URL needs an HTTP/1.1 port"
    return ""
