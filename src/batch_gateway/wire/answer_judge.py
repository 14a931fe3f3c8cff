"""What counts as an answer: the one judge of bodies that came with a 2xx status. Pure.

Servers and aggregators that have committed to a 200 put their failures into the body, each in a
form of its own, and one popular local server answers a wrong path so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

from batch_gateway.wire.answer_shapes import UNUSUAL, Shape, UsualAnswer, shape_of
from batch_gateway.wire.error_body import detail_of
from batch_gateway.wire.error_forms import breaks_off, hints_at_error, is_said, says_error
from batch_gateway.wire.error_object import find_in_json
from batch_gateway.wire.json_check import (
    BYTE_ORDER_MARK,
    NotJSONError,
    decode_text,
    is_utf8,
    read_json,
)
from batch_gateway.wire.rare_pattern import rare_pattern
from batch_gateway.wire.short_text import short_text

__all__ = [
    "NO_ANSWER",
    "Fault",
    "judge_answer",
    "judge_unusual",
    "judge_value",
    "usual_answer",
]

NO_ANSWER = "no_answer"
"""The code of a body that has no error of its own and not what was asked for either."""

_Fields: TypeAlias = Mapping[str, Any]

# Where an answer would be; what a model wrote is no word about an error.
_OUTPUT = frozenset({"choices", "data", "output", "results"})
_WRONG_PATH = rare_pattern(
    r"unexpected endpoint|(?:unknown|no such|unsupported) (?:endpoint|route)"
    r"|(?:invalid url \(|cannot )(?:get|post) |(?:endpoint|route) (?:\S+ )?(?:was )?not found",
    re.IGNORECASE,
)


class _Asked(msgspec.Struct):
    input: list[msgspec.Raw]


_decode_asked = msgspec.json.Decoder(_Asked).decode


class Fault(msgspec.Struct, frozen=True):
    """Why a body is no answer.

    Attributes:
        problem: goes on from "HTTP 200 ", e.g. "with error 502 in it: Provider returned error".
        status: the HTTP status that the same error would have; None when nothing says so.
        code: the error's own, as `error.code` of a refusal; None when it has none.
        is_retryable: False where sending again cannot help. None leaves it to the status; without
            one it is worth a retry.
        retry_after: seconds that the error asks to wait, or None.
    """

    problem: str
    status: int | None = None
    code: str | None = None
    is_retryable: bool | None = None
    retry_after: float | None = None


def judge_answer(endpoint: str, body: bytes, asked: bytes = b"") -> Fault | None:
    """None when `body` is an answer of `endpoint`, a path such as `/v1/chat/completions`.

    Of a path that is not one of OpenAI's it is only known what an error looks like. `asked` is the
    body of the request: where it has an empty list as input, an empty one is right. Never raises.
    """
    return None if usual_answer(endpoint, body) else judge_unusual(endpoint, body, asked)


def usual_answer(endpoint: str, body: bytes) -> UsualAnswer | None:
    """What `body` says when it is an answer of the usual form: None leaves it to `judge_unusual`.

    This runs once an answer. Never raises.
    """
    try:
        usual = shape_of(endpoint).decode(body)
        is_good = usual.success is not False and usual.ok is not False
        # The decoder checks syntax, not the encoding of strings that it skips.
        return usual if is_good and (body.isascii() or is_utf8(body)) else None
    except UNUSUAL:
        return None


def judge_unusual(endpoint: str, body: bytes, asked: bytes = b"") -> Fault | None:
    """As `judge_answer`, for a body that is no `usual_answer`."""
    body = body.removeprefix(BYTE_ORDER_MARK)
    if not body:
        return Fault("with an empty body")
    try:
        value = read_json(body)
        fault = judge_value(endpoint, value)
    except NotJSONError as error:
        return _unreadable(body, str(error), is_final=error.is_final)
    except RecursionError:
        return _unreadable(body, "is nested too deeply")
    if fault is None and not isinstance(value, dict):
        return _unreadable(body, "is JSON but not an object")
    nothing_there = fault is not None and fault.code == NO_ANSWER
    return None if nothing_there and _asks_nothing(asked) else fault


def _asks_nothing(asked: bytes) -> bool:
    try:
        return not _decode_asked(asked).input
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def _unreadable(body: bytes, problem: str, *, is_final: bool = False) -> Fault:
    start = short_text(decode_text(body[:80]), 60)
    retryable = False if is_final else None
    return Fault(f"whose body {problem}; it starts {start!r}", is_retryable=retryable)


def judge_value(endpoint: str, value: object) -> Fault | None:
    """The same for JSON that is decoded already: of an answer, or of an event of a stream.

    Give "" as endpoint where only the forms of errors matter, as for a chunk.
    """
    if isinstance(value, list):
        entries = cast("list[object]", value)
        faults = (_judge_fields("", entry) for entry in entries if isinstance(entry, dict))  # pyright: ignore[reportUnknownArgumentType]
        return next((fault for fault in faults if fault is not None), None)
    return _judge_fields(endpoint, cast("_Fields", value)) if isinstance(value, dict) else None


def _judge_fields(endpoint: str, fields: _Fields) -> Fault | None:
    if says_error(fields):
        return _reported(_without_output(fields))
    shape = shape_of(endpoint)
    return _of_entries(shape, fields) or _of_status(shape, fields) or _of_lack(shape, fields)


def _of_entries(shape: Shape, fields: _Fields) -> Fault | None:
    entries = fields.get(shape.list_name)
    # The items of /v1/responses may be calls of tools that failed, which the model knows of.
    if not isinstance(entries, list) or shape.list_name == "output":
        return None
    for entry in cast("list[object]", entries):
        fault = _of_entry(shape, cast("_Fields", entry)) if isinstance(entry, dict) else None
        if fault is not None:
            return fault
    return None


def _of_entry(shape: Shape, entry: _Fields) -> Fault | None:
    if is_said(entry.get("error")):
        return _reported({"error": entry["error"]})
    return _aborted(entry.get("finish_reason")) if shape.list_name == "choices" else None


def _aborted(reason: object) -> Fault | None:
    if isinstance(reason, dict):
        # SGLang's own form, with type, message and status_code.
        told = cast("_Fields", reason)
        aborted = _aborted(told.get("type"))
        return _reported({"error": told}) if aborted and told.get("message") else aborted
    if not isinstance(reason, str) or not breaks_off(reason):
        return None
    return Fault(f"with an aborted generation in it (finish_reason {reason!r})", code="aborted")


def _of_status(shape: Shape, fields: _Fields) -> Fault | None:
    """Of `/v1/responses`, whose answers have one."""
    status = fields.get("status")
    if shape.list_name != "output" or not isinstance(status, str):
        return None
    if status in ("queued", "in_progress"):
        problem = f"with a response in it that is only {status!r}; ask without `background`"
        return Fault(problem, code=status, is_retryable=False)
    if breaks_off(status) or status == "expired":
        return Fault(f"with a response in it that was {status!r}", code=status)
    return None


def _of_lack(shape: Shape, fields: _Fields) -> Fault | None:
    missing = shape.missing(fields)
    if missing or (not shape.demands and hints_at_error(fields)):
        return _reported(_without_output(fields), missing)
    return None


def _without_output(fields: _Fields) -> _Fields:
    return {name: value for name, value in fields.items() if name not in _OUTPUT}


def _reported(fields: _Fields, missing: str = "") -> Fault:
    # Where an answer is only missing, fields that nobody knows are no words about it.
    found = find_in_json(fields, depth=1 if missing else 0)
    detail = detail_of(found, 200, missing or "nothing is said about it")
    status = detail.status or (404 if _WRONG_PATH.search(detail.message) else None)
    kind = f"error {status}" if status else "no answer" if missing else "an error"
    problem = f"with {kind} in it: {detail.message}"
    code = detail.code or (NO_ANSWER if missing and not status else None)
    return Fault(problem, status, code, retry_after=detail.retry_after)
