"""What aiohttp raises, in this package's terms: one table, no I/O."""

from __future__ import annotations

import aiohttp

from batch_gateway.client.http.connection_errors import broken_error, dial_error
from batch_gateway.errors import BadResponseError, GatewayConnectionError, InferenceError

__all__ = ["exchange_error", "is_cut_refusal"]

_QUOTED_CHARACTERS = 160


def exchange_error(error: Exception, peer: str, *, reused: bool) -> InferenceError:
    """The error that a request ended with.

    `peer` is how messages name the gateway. `reused` says that the request went out on a
    kept-alive connection, which makes a close before the answer a stale one.
    """
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _proxy_refusal(error)
    if isinstance(error, aiohttp.InvalidURL):
        return GatewayConnectionError(
            f"{peer} is not an address that aiohttp connects to", is_retryable=False, cause=error
        )
    if isinstance(error, aiohttp.ClientResponseError):
        return BadResponseError(
            f"{peer} sent a malformed HTTP response ({_short(error.message)})", cause=error
        )
    if isinstance(error, aiohttp.ClientPayloadError):
        return _body_error(error, peer)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _dial_failure(error, peer)
    return _broken(error, peer, reused=reused)


def _dial_failure(error: aiohttp.ClientConnectorError, peer: str) -> InferenceError:
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        peer = f"the proxy for {peer}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = error.certificate_error  # the only place where every release has it
    else:
        reason = error.os_error
    return dial_error(reason if isinstance(reason, OSError) else OSError(str(reason)), peer)


def is_cut_refusal(status: int, error: Exception) -> bool:
    """Whether a body ended early that only adds words to what its status says."""
    is_cut = isinstance(error, aiohttp.ClientPayloadError) and "Not enough data" in str(error)
    return is_cut and status >= 400


def _proxy_refusal(error: aiohttp.ClientHttpProxyError) -> InferenceError:
    return GatewayConnectionError(
        f"the proxy refused to connect: HTTP {error.status} {_short(error.message)}",
        is_retryable=error.status >= 500,
        cause=error,
    )


def _body_error(error: aiohttp.ClientPayloadError, peer: str) -> InferenceError:
    # The cause is the parser's complaint; the socket's is only to be found inside the text.
    if "ConnectionResetError" in str(error):
        return GatewayConnectionError(
            f"{peer} reset the connection during the response", cause=error
        )
    detail = "" if error.__cause__ is None else f": {_short(str(error.__cause__))}"
    return BadResponseError(f"{peer} sent a truncated or malformed response{detail}", cause=error)


def _broken(error: Exception, peer: str, *, reused: bool) -> InferenceError:
    """Closed or reset after connecting, before the head of a response was complete."""
    if isinstance(error, aiohttp.ServerDisconnectedError):
        # A message that is not text is a head that had begun to arrive.
        begun = not isinstance(error.message, str)
        return _with_cause(
            broken_error(
                None,
                peer,
                reused=reused,
                received=int(begun),
                progress="its headers were not complete",
            ),
            error,
        )
    cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
    # How much of a head had arrived before a reset, aiohttp does not say.
    return broken_error(cause, peer, reused=reused, received=0, progress="")


def _with_cause(mapped: InferenceError, cause: Exception) -> InferenceError:
    mapped.__cause__ = cause
    return mapped


def _short(text: str) -> str:
    """One line for a message; parsers quote what the server sent."""
    line = " ".join(text.split())
    return line if len(line) <= _QUOTED_CHARACTERS else f"{line[:_QUOTED_CHARACTERS]}…"
