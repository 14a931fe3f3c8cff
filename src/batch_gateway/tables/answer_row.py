"""From a line of results to the cells of its row, whichever endpoint answered. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

import msgspec

from batch_gateway.errors import ErrorCategory, map_status_code_to_category
from batch_gateway.tables.columns import Column, Kind, as_json_text
from batch_gateway.wire.answer_text import answer_text
from batch_gateway.wire.error_body import parse_error_body
from batch_gateway.wire.json_schema import INVALID_ANSWER
from batch_gateway.wire.usage import parse_usage

__all__ = [
    "ALWAYS",
    "SOMETIMES",
    "UNFIT",
    "Cells",
    "NotAResultError",
    "decode_result",
    "read_cells",
]

Cells: TypeAlias = dict[str, Any]
"""What is in a row, by the names of columns; what is not there is None."""

ALWAYS: Final = (
    Column("text", Kind.TEXT),
    Column("finish_reason", Kind.TEXT),
    Column("input_tokens", Kind.WHOLE),
    Column("output_tokens", Kind.WHOLE),
    Column("error", Kind.TEXT),
    Column("error_category", Kind.TEXT),
    Column("status_code", Kind.WHOLE),
)
"""The columns that every table has behind `custom_id`."""

SOMETIMES: Final = (
    Column("texts", Kind.TEXTS),
    Column("tool_calls", Kind.JSON),
    Column("reasoning", Kind.TEXT),
    Column("refusal", Kind.TEXT),
    Column("embedding", Kind.VECTOR),
    Column("embeddings", Kind.VECTORS),
    Column("score", Kind.NUMBER),
    Column("scores", Kind.VECTOR),
    Column("ranking", Kind.JSON),
    Column("answer", Kind.JSON),
)
"""Those that a table has if some answer has them."""

UNFIT: Final = "INVALID_ANSWER"
"""The category of an answer that is not what a schema says, be it checked by a run or a table."""

# Failures without an answer have a code instead of a status. Those that are not here are of the
# gateway or of the way to it.
_CATEGORY_OF_CODE: Mapping[str, str] = {
    "rate_limit_exceeded": ErrorCategory.RATE_LIMIT,
    "model_not_found": ErrorCategory.INVALID_REQ,
    "parse_error": ErrorCategory.INVALID_REQ,
    "authentication_error": ErrorCategory.AUTH_ERROR,
    "batch_expired": ErrorCategory.UNKNOWN,
    "batch_cancelled": ErrorCategory.UNKNOWN,
    "internal_error": ErrorCategory.UNKNOWN,
    "unknown_error": ErrorCategory.UNKNOWN,
    INVALID_ANSWER: UNFIT,
}


_OF_A_LINE = frozenset({"missing_required_parameter", "duplicate_custom_id", "url_mismatch"})


class NotAResultError(Exception):
    """The text goes on from "line 7 "."""


class _Result(msgspec.Struct):
    custom_id: str
    id: str = ""
    response: Any = None
    error: Any = None


_decode = msgspec.json.Decoder(_Result).decode


def decode_result(line: bytes) -> tuple[str, str, Any, Any]:
    """(id, custom_id, response, error) of a line of results. Raises NotAResultError."""
    try:
        found = _decode(line)
    except msgspec.ValidationError as error:
        raise NotAResultError(f"is no result of a batch: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _decode_by_stdlib(line)
    return found.id, found.custom_id, found.response, found.error


def _decode_by_stdlib(line: bytes) -> _Result:
    """A second opinion: msgspec refuses half a surrogate pair, which JSON allows."""
    try:
        return msgspec.convert(json.loads(line.decode()), _Result)
    except msgspec.ValidationError as error:
        raise NotAResultError(f"is no result of a batch: {error}") from error
    except (ValueError, RecursionError) as error:
        raise NotAResultError(f"is not JSON: {error}") from error


def read_cells(response: Any, error: Any) -> Cells:
    """What is in the row of a result with this `response` and `error`, those of its line."""
    fields = _object(response)
    status, body = fields.get("status_code"), fields.get("body")
    status = status if isinstance(status, int) else None
    if error is not None or status is None or not 200 <= status <= 299:
        return {"status_code": status, **_failure(status, body, error)}
    return {"status_code": status, **_tokens(body), **_answer(_object(body))}


def _failure(status: int | None, body: Any, error: Any) -> Cells:
    told = _object(error)
    if told or error is not None:
        code = str(told.get("code") or "")
        message = str(told.get("message") or code or error)
    else:
        said = as_json_text(body).encode(errors="replace")
        code, message = "", parse_error_body(status or 0, said).message
    if status is not None and not 200 <= status <= 299:
        category: str = map_status_code_to_category(status)
    else:
        category = _category_of(code)
    cells: Cells = {"error": message, "error_category": str(category)}
    # An answer that is not what was asked for is kept as text: it was paid for.
    wasted = told.get("body")
    answer = _read(wasted) if isinstance(wasted, str) else None
    return {**_tokens(answer), **_answer(answer), **cells} if answer else cells


def _category_of(code: str) -> str:
    if code in ErrorCategory.__members__:
        return code
    # What is wrong with a line that was left out has a code by its field.
    of_the_line = code.startswith("invalid_") or code in _OF_A_LINE
    otherwise = ErrorCategory.INVALID_REQ if of_the_line else ErrorCategory.SERVER_ERROR
    return _CATEGORY_OF_CODE.get(code, otherwise)


def _read(text: str) -> Mapping[str, Any]:
    try:
        return _object(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _tokens(body: Any) -> Cells:
    usage = _object(body).get("usage")
    found = parse_usage(as_json_text({"usage": usage}).encode()) if usage else None
    if found is None:
        return {}
    return {"input_tokens": found.input_tokens, "output_tokens": found.output_tokens}


def _answer(body: Mapping[str, Any]) -> Cells:
    for name, read in _FORMS.items():
        if isinstance(body.get(name), list):
            cells = read(body)
            if cells is not None:
                return cells
    if isinstance(body.get("text"), str):
        return {"text": body["text"]}  # a transcription
    return {"answer": body}


def _of_choices(body: Mapping[str, Any]) -> Cells | None:
    choices = _objects(body["choices"])
    if not choices:
        return None
    first, message = choices[0], _object(choices[0].get("message"))
    cells: Cells = {"text": answer_text(body), "finish_reason": _reason(first)}
    if len(choices) > 1:
        cells["texts"] = [answer_text({"choices": [one]}) for one in _by_index(choices)]
    calls = _called(message)
    if calls:
        cells["tool_calls"] = calls
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return cells | _texts(reasoning=reasoning, refusal=message.get("refusal"))


def _called(message: Mapping[str, Any]) -> list[Cells]:
    calls = [
        {"id": one.get("id"), **_function(_object(one.get("function") or one.get("custom")))}
        for one in _objects(message.get("tool_calls"))
    ]
    old = _object(message.get("function_call"))
    return calls or ([{"id": None, **_function(old)}] if old else [])


def _function(call: Mapping[str, Any]) -> Cells:
    return {"name": call.get("name"), "arguments": call.get("arguments", call.get("input"))}


def _reason(choice: Mapping[str, Any]) -> str | None:
    reason = choice.get("finish_reason")
    # SGLang's own form has the reason in `type`.
    reason = _object(reason).get("type") if isinstance(reason, dict) else reason
    return reason if isinstance(reason, str) else None


def _of_output(body: Mapping[str, Any]) -> Cells:
    """Of `/v1/responses`; it ends with a status, and with a reason where it is cut off."""
    items = _objects(body["output"])
    reason = _object(body.get("incomplete_details")).get("reason") or body.get("status")
    cells: Cells = {"text": answer_text(body)} | _texts(finish_reason=reason)
    calls = [
        {"id": one.get("call_id"), **_function(one)}
        for one in items
        if one.get("type") in ("function_call", "custom_tool_call")
    ]
    if calls:
        cells["tool_calls"] = calls
    parts = [part for one in items for part in _objects(one.get("content"))]
    thoughts = [
        part
        for one in items
        if one.get("type") == "reasoning"
        for part in [*_objects(one.get("summary")), *_objects(one.get("content"))]
    ]
    return cells | _texts(
        reasoning="\n".join(str(one.get("text") or "") for one in thoughts),
        refusal=next((one.get("refusal") for one in parts if one.get("type") == "refusal"), None),
    )


def _of_data(body: Mapping[str, Any]) -> Cells | None:
    """Of embeddings, or of vLLM's `/v1/score`; in the order of what was asked."""
    entries = _by_index(_objects(body["data"]))
    vectors = [_vector(one.get("embedding")) for one in entries]
    if entries and all(one is not None for one in vectors):
        return {"embedding": vectors[0]} if len(vectors) == 1 else {"embeddings": vectors}
    scores = [_number(one.get("score")) for one in entries]
    if entries and all(one is not None for one in scores):
        return {"score": scores[0]} if len(scores) == 1 else {"scores": scores}
    return None


def _vector(value: Any) -> list[float] | None:
    """A vector as numbers or as `encoding_format: base64` has it, 32-bit floats, low byte first."""
    if isinstance(value, list):
        numbers = [_number(one) for one in cast("list[Any]", value)]
        return None if None in numbers else cast("list[float]", numbers)
    if not isinstance(value, str):
        return None
    try:
        found = array("f", base64.b64decode(value, validate=True))
    except (binascii.Error, ValueError):
        return None
    if sys.byteorder == "big":
        found.byteswap()
    return found.tolist()


def _of_results(body: Mapping[str, Any]) -> Cells | None:
    """Of a rerank: places of documents, best first, as they stand in the answer."""
    entries = _objects(body["results"])
    ranked = [{"index": one.get("index"), "score": one.get("relevance_score")} for one in entries]
    return {"ranking": ranked} if entries and all("relevance_score" in o for o in entries) else None


_FORMS: Mapping[str, Callable[[Mapping[str, Any]], Cells | None]] = {
    "choices": _of_choices,
    "output": _of_output,
    "data": _of_data,
    "results": _of_results,
}


def _by_index(entries: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if all(isinstance(one.get("index"), int) for one in entries):
        return sorted(entries, key=lambda one: one["index"])
    return entries


def _texts(**found: Any) -> Cells:
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number else None


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Mapping[str, Any]]:
    entries: Iterable[Any] = cast("list[Any]", value) if isinstance(value, list) else ()
    return [cast("Mapping[str, Any]", one) for one in entries if isinstance(one, dict)]
