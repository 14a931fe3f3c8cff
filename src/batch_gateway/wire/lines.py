"""Lines of OpenAI batch files: input lines taken apart, result lines put together, as bytes.

Bodies pass through: a request body is cut out of its line, and a response body is pasted into
its line, without a Python object being built from either.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

__all__ = [
    "BATCH_ENDPOINTS",
    "LINE_ID_PREFIX",
    "OTHER_ENDPOINTS",
    "BatchLine",
    "LineId",
    "decode_batch_line",
    "error_line",
    "error_response_line",
    "line_id",
    "parse_line_id",
    "paste",
    "success_line",
    "wrap_error_body",
]

BATCH_ENDPOINTS: Final = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/moderations",
)
"""What `url` may be in a line of a batch (OpenAI Batch API)."""

OTHER_ENDPOINTS: Final = (
    "/v1/score",
    "/score",
    "/v1/rerank",
    "/v2/rerank",
    "/rerank",
    "/v1/classify",
    "/classify",
    "/v1/pooling",
    "/pooling",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
)
"""What `url` may be besides in a file that is run (vLLM's and others' endpoints)."""

LINE_ID_PREFIX: Final = "batch_req_"

_WITH_CONTENT = LINE_ID_PREFIX + "%s_%09d_%08x"
_LINE_ID = re.compile(r"batch_req_([0-9a-f]{12,64})_([0-9]{1,18})(?:_([0-9a-f]{8}))?")
# Some readers of text, such as `str.splitlines`, end a line there. JSON has them in strings only,
# and there it wants all others escaped at which those readers do so.
_LINE_BREAKS_OF_UNICODE = ("\u2028", "\u2029", "\x85")
_encode = msgspec.json.encode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


class BatchLine(msgspec.Struct, frozen=True, gc=False):
    """One input line, its body still as the bytes that stood in the file."""

    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


decode_batch_line = msgspec.json.Decoder(BatchLine).decode
"""`bytes` of one line to a `BatchLine`. Raises msgspec.DecodeError, or RecursionError for a body
nested some thousand levels deep."""


def line_id(fingerprint: str, index: int, content: int | None = None) -> str:
    """The id of a result line: which input file, which of its requests (from 0), and what it was.

    `content` is the CRC-32 of the request's line without white space around it; earlier versions
    have none.
    """
    if content is None:
        return f"{LINE_ID_PREFIX}{fingerprint}_{index:09}"
    # Once a request; an f-string with such formats takes twice as long.
    return _WITH_CONTENT % (fingerprint, index, content)


class LineId(NamedTuple):
    """What the id of a result line says; `content` is None in those of earlier versions."""

    fingerprint: str
    request: int
    content: int | None


def parse_line_id(text: str) -> LineId | None:
    """What an id that `line_id` made says; None for any other text."""
    match = _LINE_ID.fullmatch(text)
    if match is None:
        return None
    content = match.group(3)
    number = int(match.group(2))
    return LineId(match.group(1), number, None if content is None else int(content, 16))


def success_line(
    result_id: str, custom_id: str, status_code: int, request_id: str, body: bytes
) -> bytes:
    """A line of the output file, newline included. `body` must be JSON."""
    # Joined, which takes two thirds of the time of a format: this runs once a request.
    return b"".join(
        (
            b'{"id":"',
            result_id.encode(),
            b'","custom_id":',
            # Nearly all are ASCII.
            _encode(custom_id) if custom_id.isascii() else _encode_text(custom_id),
            b',"response":{"status_code":%d,"request_id":' % status_code,
            _encode(request_id) if request_id.isascii() else _encode_text(request_id),
            b',"body":',
            paste(body),
            b'},"error":null}\n',
        )
    )


def error_response_line(
    result_id: str, custom_id: str, status_code: int, request_id: str, body: bytes
) -> bytes:
    """A line of the error file for a final answer that was not a success.

    `body` must be JSON; `wrap_error_body` makes it so.
    """
    return success_line(result_id, custom_id, status_code, request_id, body)


def error_line(
    result_id: str, custom_id: str, code: str, message: str, body: str | None = None
) -> bytes:
    """A line of the error file for a request that got no answer at all.

    `body` is the text of an answer that nobody can use, but that was paid for.
    """
    text = b"" if body is None else b',"body":%b' % _encode_text(body)
    return b'{"id":"%b","custom_id":%b,"response":null,"error":{"code":%b,"message":%b%b}}\n' % (
        result_id.encode(),
        _encode_text(custom_id),
        _encode_text(code),
        _encode_text(message),
        text,
    )


def wrap_error_body(body: bytes, *, message: str, kind: str, code: str) -> bytes:
    """`body` when it is a JSON object, else an OpenAI-style error object around `message`.

    Text, HTML, nothing, and JSON that was cut short all become
    `{"error": {"message", "type", "param", "code"}}`.
    """
    if body.lstrip()[:1] == b"{":
        try:
            _decode_any(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            return body
    quoted = (_encode_text(text) for text in (message, kind, code))
    return b'{"error":{"message":%b,"type":%b,"param":null,"code":%b}}' % tuple(quoted)


def _encode_text(text: str) -> bytes:
    """A JSON string; half a surrogate pair, which a gateway's words may hold, becomes "?"."""
    try:
        encoded = _encode(text)
    except UnicodeEncodeError:
        encoded = _encode(text.encode(errors="replace").decode())
    return encoded if text.isascii() else _on_one_line(encoded, text)


def _on_one_line(encoded: bytes, text: str) -> bytes:
    """JSON without characters that end a line for some; `text` has them when `encoded` does.

    Looking for them in bytes would cost as much as everything else.
    """
    for sign in _LINE_BREAKS_OF_UNICODE:
        if sign in text:
            encoded = encoded.replace(sign.encode(), f"\\u{ord(sign):04x}".encode())
    return encoded


def paste(body: bytes) -> bytes:
    """JSON as one line of valid UTF-8, its numbers and strings as they were written.

    Line breaks can only stand between tokens, because JSON escapes them inside strings. Bytes
    that are not UTF-8 become U+FFFD, so that one bad answer cannot spoil the whole file.
    """
    body = body.strip()
    if not body.isascii():
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = body.decode(errors="replace")
            body = text.encode()
        body = _on_one_line(body, text)
    return body.replace(b"\n", b" ").replace(b"\r", b" ")
