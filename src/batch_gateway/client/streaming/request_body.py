"""Asking for a stream: what the body of a request must say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from batch_gateway.errors import InvalidRequestError

__all__ = ["streaming_body"]

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_USAGE = msgspec.Raw(b'{"include_usage":true}')


def _streaming_params(params: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """The parameters of a request for a stream, with usage unless they decide that themselves."""
    asking: dict[str, Any] = {**params, "stream": True}
    if _has_usage_option(endpoint) and asking.get("stream_options") is None:
        asking["stream_options"] = _USAGE
    return asking


def streaming_body(body: bytes, endpoint: str, *, with_usage: bool = False) -> bytes:
    """The same for JSON bytes; all other values stay as they were written.

    `with_usage` asks for it whatever they say: an answer that is not streamed always has it.

    Raises InvalidRequestError when they are not a JSON object.
    """
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"params are not a JSON object: {error}", cause=error) from error
    options = fields.get("stream_options")
    if options is not None and bytes(options).strip() == b"null":
        del fields["stream_options"]
    elif options is not None and with_usage and _has_usage_option(endpoint):
        fields["stream_options"] = _with_usage(options)
    return _encode(_streaming_params(fields, endpoint))


def _with_usage(options: msgspec.Raw) -> msgspec.Raw:
    try:
        return msgspec.Raw(_encode({**_decode_fields(options), "include_usage": True}))
    except msgspec.DecodeError:
        return options  # no object: the gateway will say so


def _has_usage_option(endpoint: str) -> bool:
    # The last event of /v1/responses has the usage in any case, and the option is unknown there.
    return not endpoint.endswith("/responses")
