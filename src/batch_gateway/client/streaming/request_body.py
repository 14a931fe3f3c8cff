"""Asking for a stream: what the body of a request must say, and what it asks for."""

from __future__ import annotations

import msgspec

from batch_gateway.errors import InferenceError, InvalidRequestError

__all__ = [
    "STREAMABLE",
    "choices_asked",
    "is_streamable",
    "quick_streaming_body",
    "refuses_usage_option",
    "require_streamable",
    "streaming_body",
]

STREAMABLE = ("/chat/completions", "/completions", "/responses")
"""What the endpoints end with whose answers come in chunks that can be put together."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_TRUE = msgspec.Raw(b"true")
_OPTION = "stream_options"
_USAGE = "include_usage"
_ONLY_USAGE = msgspec.Raw(b'{"include_usage":true}')
# How the names of both begin, and what asks for them at the end of an object.
_STREAM = b'"stream'
# Bytes that are few, and not the most frequent ones, are looked for in a fraction of the time.
_START = _STREAM[:3]
_ASKS = b',"stream":true}'
_ASKS_USAGE = b',"stream":true,"stream_options":{"include_usage":true}}'
_USAGE_WORDS = (_OPTION.encode(), _USAGE.encode())
_UNPROCESSABLE = 422


def is_streamable(endpoint: str) -> bool:
    """Whether answers of this endpoint come in chunks that can be put together."""
    return endpoint.endswith(STREAMABLE)


def require_streamable(endpoint: str) -> None:
    """Raises InvalidRequestError for endpoints that do not stream."""
    if not is_streamable(endpoint):
        raise InvalidRequestError(
            f"{endpoint} cannot be streamed; {', '.join('/v1' + path for path in STREAMABLE)} can"
        )


def streaming_body(body: bytes, endpoint: str, *, with_usage: bool = True) -> bytes:
    """`body` asking for a stream; all other values stay as they were written.

    Usage is asked for, unless `with_usage` is off, or `stream_options` of the body's own decide
    about it, or are null.

    Raises InvalidRequestError when `body` is not a JSON object.
    """
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"params are not a JSON object: {error}", cause=error) from error
    fields["stream"] = _TRUE
    # The last event of /v1/responses has it in any case.
    if with_usage and not endpoint.endswith("/responses"):
        options = fields.get(_OPTION)
        fields[_OPTION] = _ONLY_USAGE if options is None else _with_usage(options)
    return _encode(fields)


def quick_streaming_body(body: bytes, endpoint: str, *, with_usage: bool) -> bytes:
    """The same of a body that says nothing of streams, for who leaves it to the server to refuse
    what is not JSON: a prompt may be long, and is not looked into.
    """
    says_nothing = body.find(_START) < 0 or body.find(_STREAM) < 0
    if says_nothing and body.startswith(b'{"') and body.endswith(b"}"):
        asks_usage = with_usage and not endpoint.endswith("/responses")
        return body[:-1] + (_ASKS_USAGE if asks_usage else _ASKS)
    return streaming_body(body, endpoint, with_usage=with_usage)


def _with_usage(options: msgspec.Raw) -> msgspec.Raw:
    try:
        own = _decode_fields(options)
    except msgspec.DecodeError:
        return options  # null, or nothing that this knows
    return msgspec.Raw(_encode({**own, _USAGE: own.get(_USAGE, _TRUE)}))


def refuses_usage_option(error: InferenceError) -> bool:
    """Whether an error is the refusal of `stream_options`, which some vendors do not know."""
    refused = isinstance(error, InvalidRequestError) or error.status_code == _UNPROCESSABLE
    return refused and any(word in error.body for word in _USAGE_WORDS)


class _Asked(msgspec.Struct):
    n: int | None = None
    prompt: msgspec.Raw = msgspec.Raw(b"")


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


def choices_asked(body: bytes) -> int:
    """How many choices an answer to `body` has: `n` for each prompt."""
    try:
        asked = _decode_asked(body)
        prompts = _decode_list(asked.prompt) if bytes(asked.prompt).startswith(b"[") else []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return 1
    # A list of numbers is one prompt of tokens.
    several = [one for one in prompts if bytes(one).startswith((b'"', b"["))]
    return max(1, asked.n or 1) * max(1, len(several))
