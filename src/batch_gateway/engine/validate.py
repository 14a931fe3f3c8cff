"""What a line of a batch file must be: one fast check, and the words for what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, Literal, cast

import msgspec

from batch_gateway.engine.problems import Fault
from batch_gateway.wire.lines import BATCH_ENDPOINTS

__all__ = [
    "CheckedBody",
    "CheckedLine",
    "Diagnosis",
    "check_line",
    "diagnose",
    "faulty_line",
]

_Text = Annotated[str, msgspec.Meta(min_length=1)]
_NOTHING = msgspec.Raw(b"")
_BOM = b"\xef\xbb\xbf"
_TRUE = msgspec.Raw(b"true")


class _Message(msgspec.Struct, gc=False):
    role: str = ""
    content: msgspec.Raw = _NOTHING


class _FirstMessage(msgspec.Struct, array_like=True, gc=False):
    # An array-like struct reads the first element and skips the rest without building them.
    first: _Message | None = None


class CheckedBody(msgspec.Struct, gc=False):
    """The parts of a body that the plan looks at."""

    model: _Text
    stream: bool | None = None
    background: bool | None = None
    messages: _FirstMessage | None = None
    instructions: msgspec.Raw = _NOTHING
    prompt: msgspec.Raw = _NOTHING
    input: msgspec.Raw = _NOTHING


class CheckedLine(msgspec.Struct, gc=False):
    """A line that may be sent, except that two switches must still be looked at."""

    custom_id: _Text
    method: Literal["POST"]
    url: Literal[
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/moderations",
    ]
    body: CheckedBody


class _PlainBody(msgspec.Struct):
    model: _Text
    stream: bool | None = None
    background: msgspec.Raw = _NOTHING


class _PlainLine(msgspec.Struct):
    custom_id: _Text
    method: Literal["POST"]
    url: str
    body: _PlainBody


class Diagnosis(msgspec.Struct):
    """What is wrong with one line, and its custom_id when that much could be read."""

    problems: list[Fault]
    custom_id: str | None = None


_decode = msgspec.json.Decoder(CheckedLine).decode
_decode_plain = msgspec.json.Decoder(_PlainLine).decode
_decode_any = msgspec.json.Decoder().decode
# The one field of a line that is no request, which no file of requests has.
_FAULTS = "\0faults"
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")


def faulty_line(custom_id: str, problems: Sequence[str]) -> bytes:
    """What stands for a row of which no request can be made; `diagnose` says these problems."""
    faults = {_FAULTS: [_HALF_PAIR.sub("?", problem) for problem in problems]}
    return msgspec.json.encode({"custom_id": custom_id, **faults})


def check_line(line: bytes, paths: Collection[str] = ()) -> CheckedLine | None:
    """The line when it may be sent; None when `diagnose` should say why not.

    `paths` are endpoints beside those of OpenAI's Batch API. UTF-8 is the caller's to check, a
    block at a time. A body of unusual shape (`messages` that
    are not a list of objects) is the gateway's to judge, and passes here.
    """
    try:
        checked = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _check_oddly_shaped(line, paths)
    # With either the gateway would answer with less than a whole answer.
    body = checked.body
    return None if body.stream or body.background else checked


def _check_oddly_shaped(line: bytes, paths: Collection[str]) -> CheckedLine | None:
    try:
        plain = _decode_plain(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    body = plain.body
    known = plain.url in BATCH_ENDPOINTS or plain.url in paths
    if not known or body.stream or body.background == _TRUE:
        return None
    url = cast("Any", plain.url)
    return CheckedLine(plain.custom_id, plain.method, url, CheckedBody(plain.body.model))


def diagnose(line: bytes, paths: Collection[str] = ()) -> Diagnosis:
    """Every problem of a line that `check_line` refused with the same `paths`, in words."""
    if (odd := _oddity(line)) is not None:
        return Diagnosis([Fault(odd)])
    try:
        value = _decode_any(line)
    except RecursionError:
        return Diagnosis([Fault("is nested too deeply")])
    except msgspec.DecodeError as error:
        return Diagnosis([Fault(_json_problem(line, error))])
    if not isinstance(value, dict):
        return Diagnosis([Fault(_not_an_object(value))])
    fields = cast("dict[str, Any]", value)
    if _FAULTS in fields:
        told = cast("list[str]", fields[_FAULTS])
        return Diagnosis(
            [Fault(text, "invalid_row") for text in told], fields.get("custom_id") or None
        )
    texts = (
        *_check_custom_id(fields),
        *_check_method(fields),
        *_check_url(fields, paths),
        *_check_body(fields),
    )
    faults = [Fault.of_field(text) for text in texts]
    custom_id = fields.get("custom_id")
    usable = isinstance(custom_id, str) and custom_id
    faults = faults or [Fault("cannot be read as a request")]
    return Diagnosis(faults, custom_id if usable else None)


def _oddity(line: bytes) -> str | None:
    """Why a line is no text, or what others leave in files that JSON has not, with the cure."""
    text = line.strip()
    if text.startswith(_BOM):
        return (
            "begins with a byte-order mark, as where two files were joined: take it out, as"
            r" `sed -i 's/^\xEF\xBB\xBF//' FILE` does"
        )
    if text in (b"\x1a", b"\x04"):
        return "is a control character (Ctrl-Z or Ctrl-D) that once ended files: delete the line"
    if b"\0" in text:
        return (
            f"holds NUL (byte {line.index(0) + 1} of the line), as UTF-16 or a damaged file does:"
            " save it as UTF-8, or write the line anew"
        )
    if text.startswith((b"#", b"//")):
        return "is a comment, which JSON does not have: delete the line"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"is not UTF-8 (byte {error.start + 1} of the line)"
    return None


def _json_problem(line: bytes, error: msgspec.DecodeError) -> str:
    try:
        text = json.dumps(json.loads(line), ensure_ascii=False)
    except (ValueError, RecursionError):
        detail = str(error).removeprefix("JSON is malformed: ")
        if detail == "Input data was truncated":
            detail = "it ends too early"
        return f"is not valid JSON: {detail}"
    half = _HALF_PAIR.search(text)
    if half:
        return f"holds \\u{ord(half.group()):04x}, half of a surrogate pair, which is no character"
    return f"is not valid JSON: {str(error).removeprefix('JSON is malformed: ')}"


def _not_an_object(value: object) -> str:
    if isinstance(value, list):
        return "is a JSON array: write one JSON object on each line (JSONL)"
    return f"is {_kind(value)}, not a JSON object"


def _check_custom_id(fields: dict[str, Any]) -> Iterator[str]:
    if "custom_id" not in fields:
        yield "custom_id is missing: give every line its own"
    elif not isinstance(fields["custom_id"], str):
        yield f"custom_id must be a string, not {_kind(fields['custom_id'])}"
    elif not fields["custom_id"]:
        yield "custom_id is empty"


def _check_method(fields: dict[str, Any]) -> Iterator[str]:
    method = fields.get("method")
    if "method" not in fields:
        yield 'method is missing: write "method": "POST"'
    elif not isinstance(method, str):
        yield f"method must be a string, not {_kind(method)}"
    elif method != "POST":
        yield f'method is {_quoted(method)}: only "POST" can be batched'


def _check_url(fields: dict[str, Any], paths: Collection[str]) -> Iterator[str]:
    url = fields.get("url")
    if "url" not in fields:
        yield f'url is missing: write "url": "{BATCH_ENDPOINTS[0]}" or another endpoint'
    elif not isinstance(url, str):
        yield f"url must be a string, not {_kind(url)}"
    elif url not in BATCH_ENDPOINTS and url not in paths:
        yield _url_problem(url)


def _url_problem(url: str) -> str:
    if "://" in url:
        path = next((path for path in BATCH_ENDPOINTS if url.endswith(path)), BATCH_ENDPOINTS[0])
        return (
            f'url {_quoted(url)} is a full URL: write only its path, "{path}"; '
            "the gateway is chosen when the batch is run"
        )
    import difflib  # noqa: PLC0415 - for this one mistake

    guess = difflib.get_close_matches(url, BATCH_ENDPOINTS, 1, cutoff=0.8)
    hint = f'did you mean "{guess[0]}"?' if guess else f"use one of {', '.join(BATCH_ENDPOINTS)}"
    return f"url {_quoted(url)} is not an endpoint that can be batched: {hint}"


def _check_body(fields: dict[str, Any]) -> Iterator[str]:
    body = fields.get("body")
    if "body" not in fields:
        bare = any(name in fields for name in ("messages", "prompt", "input"))
        hint = ": put the request's own fields inside it" if bare else ""
        yield f"body is missing{hint}"
    elif isinstance(body, str):
        yield "body must be an object, not a string: write the JSON itself, without quotes"
    elif not isinstance(body, dict):
        yield f"body must be an object, not {_kind(body)}"
    else:
        yield from _check_body_fields(cast("dict[str, Any]", body), fields)


def _check_body_fields(body: dict[str, Any], fields: dict[str, Any]) -> Iterator[str]:
    model = body.get("model")
    if "model" not in body:
        beside = "model" in fields
        yield "body.model is missing" + (": move model into body" if beside else "")
    elif not isinstance(model, str):
        yield f"body.model must be a string, not {_kind(model)}"
    elif not model:
        yield "body.model is empty"
    stream = body.get("stream")
    if stream is True:
        yield "body.stream is true: a batch returns whole answers, so remove it"
    elif stream is not None and not isinstance(stream, bool):
        yield f"body.stream must be false or absent, not {_kind(stream)}"
    if body.get("background") is True:
        yield "body.background is true: a batch waits for its answers, so remove it"


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a string"
    return "an array" if isinstance(value, list) else "an object"


def _quoted(text: str) -> str:
    shown = text if len(text) <= 80 else f"{text[:77]}…"
    return json.dumps(shown, ensure_ascii=False)
