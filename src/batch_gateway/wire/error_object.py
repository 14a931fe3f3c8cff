"""What the JSON of an error says, however the fields around its words are called and nested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from batch_gateway.wire.chunks import decode_json, encode_json
from batch_gateway.wire.error_status import status_of_number
from batch_gateway.wire.http2.grpc_status import HTTP_STATUS_OF_GRPC
from batch_gateway.wire.retry_after import retry_info, said_number
from batch_gateway.wire.short_text import short_text

__all__ = ["Found", "find_in_json"]

_DEEPEST = 8
_MOST_FIELDS = 200
_MOST_PROBLEMS = 3
# A sentence may speak of a status that it does not name.
_MOST_WORDS = 3
_LONGEST_CODE = 100

# By their names in lower case without "_", "-" and ".". Those that hold the error itself come
# before its own words, which are more general then; the others after them.
_HOLDS_ERROR = (
    *("error", "errors", "err", "fault", "exception"),
    *("responsemetadata", "baseresp", "xgroq"),
)
_MAY_HOLD_ERROR = ("response", "body", "data", "result")
_MESSAGE = (
    *("message", "msg", "errormessage", "errormsg", "errmsg", "errordescription", "detail"),
    *("faultstring", "statusmsg", "statusmessage", "description", "title", "reason"),
    *("error", "err"),
)
_CODE = ("code", "errorcode", "errcode", "errno", "errornum")
_TYPE = ("type", "errortype", "exceptiontype")
_STATUS = ("status", "statuscode", "httpstatus", "httpstatuscode", "httpcode", "code", "errorcode")
# Says only that something is an error.
_NO_TYPE = frozenset({"error", "errors"})


class Found(msgspec.Struct, frozen=True):
    """What was found so far; `number` is a status as a number, `words` may name one."""

    message: str = ""
    code: str | None = None
    type: str | None = None
    param: str | None = None
    number: int | None = None
    words: tuple[str, ...] = ()
    retry_after: float | None = None

    def filled_from(self, other: Found) -> Found:
        """With what `other`, which is less to the point, says besides."""
        return Found(
            message=self.message or other.message,
            code=self.code or other.code,
            type=self.type or other.type,
            param=self.param or other.param,
            number=self.number or other.number,
            words=self.words + other.words,
            retry_after=self.retry_after or other.retry_after,
        )


def find_in_json(value: object, depth: int = 0) -> Found:
    """The words, code, status and wait of an error, from any JSON value."""
    if depth > _DEEPEST:
        return Found()
    if isinstance(value, str):
        return _in_text(value, depth)
    if isinstance(value, list):
        return _in_list(cast("list[Any]", value), depth)
    if isinstance(value, dict):
        return _in_object(cast("dict[str, Any]", value), depth)
    return Found()


def _in_text(text: str, depth: int) -> Found:
    """Aggregators pass on the JSON that they got as a string."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            found = find_in_json(decode_json(text.encode("utf-8", "replace")), depth + 1)
        except ValueError:
            found = Found()
        if found.message:
            return found
    return Found(message=text.strip())


def _in_list(items: list[Any], depth: int) -> Found:
    if _are_field_problems(items):
        return Found(message=_as_text(items))
    found = [find_in_json(item, depth + 1) for item in items[:_MOST_PROBLEMS]]
    said = [one for one in found if one.message] or [one for one in found if one != Found()]
    if not said:
        return Found()
    return msgspec.structs.replace(said[0], message="; ".join(one.message for one in said))


def _are_field_problems(items: list[Any]) -> bool:
    """FastAPI and pydantic: each says in `loc` which field is meant, so that all of it counts."""
    first = items[0] if items else None
    return isinstance(first, dict) and "loc" in first


def _in_object(given: dict[str, Any], depth: int) -> Found:
    fields = _by_plain_name(given)
    found = _held(fields, _HOLDS_ERROR, depth).filled_from(_own(fields, depth))
    if not found.message:
        found = _held(fields, _MAY_HOLD_ERROR, depth).filled_from(found)
    if found.message:
        return _with_field_problems(_with_upstream(found, fields, depth), fields)
    # Better than nothing, where nobody knows the form.
    told = depth == 0 and any(value for value in given.values())
    return msgspec.structs.replace(found, message=_as_text(given) if told else "")


def _by_plain_name(given: Mapping[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, _ in zip(given, range(_MOST_FIELDS), strict=False):
        if given[name] is not None:
            plain = name.lower().replace("_", "").replace("-", "").replace(".", "")
            fields.setdefault(plain, given[name])
    return fields


def _held(fields: dict[str, Any], names: tuple[str, ...], depth: int) -> Found:
    """What the first of `names` says that holds any words, else any code or status."""
    wordless = Found()
    for name in names:
        value = fields.get(name)
        if isinstance(value, dict | list):
            found = find_in_json(cast("object", value), depth + 1)
            if found.message:
                return found
            wordless = wordless.filled_from(found)
    return wordless


def _own(fields: dict[str, Any], depth: int) -> Found:
    """What the fields of one object say themselves."""
    words = tuple(_words(fields))
    code = _text(_first(fields, _CODE))
    said = _message(fields, depth)
    error = fields.get("error")
    if isinstance(error, str) and len(error.split()) <= _MOST_WORDS:
        # OAuth gives a code there, others the phrase of a status or a word of their own.
        words = (*words, error)
        if said.message != error and " " not in error.strip():
            code = code or _text(error)
    kind = _text(_first(fields, _TYPE))
    number = next((s for name in _STATUS if (s := status_of_number(fields.get(name)))), None)
    own = Found(
        code=code,
        type=None if kind in _NO_TYPE else kind,
        param=_text(fields.get("param")),
        number=number or _grpc_status(fields),
        words=words,
        retry_after=_wait(fields),
    )
    return said.filled_from(own)


def _message(fields: dict[str, Any], depth: int) -> Found:
    besides, as_json = Found(), ""
    for name in _MESSAGE:
        value = fields.get(name)
        if isinstance(value, str) and value.strip():
            return _in_text(value, depth).filled_from(besides)
        if isinstance(value, list | dict) and value and name not in _HOLDS_ERROR:
            found = find_in_json(cast("object", value), depth + 1)
            besides = besides.filled_from(found)
            if found.message:
                return besides
            as_json = as_json or _as_text(cast("object", value))
    return msgspec.structs.replace(besides, message=as_json)


def _with_upstream(found: Found, fields: dict[str, Any], depth: int) -> Found:
    """OpenRouter says what its provider said in `metadata`, and itself only that it failed."""
    metadata = fields.get("metadata")
    if not isinstance(metadata, dict):
        return found
    about = cast("dict[str, Any]", metadata)
    raw = find_in_json(about.get("raw"), depth + 1)
    parts = [part for part in (_text(about.get("provider_name")), raw.message) if part]
    message = f"{found.message} ({': '.join(parts)})" if parts else found.message
    return msgspec.structs.replace(found.filled_from(raw), message=message)


def _with_field_problems(found: Found, fields: dict[str, Any]) -> Found:
    """ASP.NET and Laravel say in `errors` what is wrong with each field, by the field's name."""
    problems = fields.get("errors")
    if not isinstance(problems, dict) or find_in_json(cast("object", problems), _DEEPEST).message:
        return found
    told = _as_text(cast("object", problems))
    return msgspec.structs.replace(found, message=f"{found.message} {told}")


def _words(fields: dict[str, Any]) -> Iterator[str]:
    """What may name a status, the most telling first."""
    for name in (*_CODE, "status", "statuscode", *_TYPE):
        value = fields.get(name)
        if isinstance(value, str):
            yield value


def _grpc_status(fields: dict[str, Any]) -> int | None:
    """grpc-gateway gives google.rpc.Status as it is, whose code is a gRPC one."""
    code = fields.get("code")
    if isinstance(fields.get("details"), list) and isinstance(code, int):
        return HTTP_STATUS_OF_GRPC.get(code)
    return None


def _wait(fields: dict[str, Any]) -> float | None:
    seconds = said_number(_first(fields, ("retryafter", "retryafterseconds")))
    milliseconds = said_number(fields.get("retryafterms"))
    if milliseconds is not None:
        seconds = milliseconds / 1000
    return seconds or retry_info(fields.get("details"))


def _first(fields: dict[str, Any], names: tuple[str, ...]) -> object:
    return next((fields[name] for name in names if name in fields), None)


def _text(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return short_text(str(value), _LONGEST_CODE) or None


def _as_text(value: object) -> str:
    try:
        return encode_json(value).decode("utf-8", "replace")
    except (RecursionError, ValueError):
        return ""
