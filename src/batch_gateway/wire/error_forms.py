"""The forms in which bodies of a 2xx status report an error all the same. Pure.

A form is a field and a test of its value. Some say an error whatever else is in the body; others
are ordinary words, such as `detail` or `status`, which count only where there is no answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from batch_gateway.wire.rare_pattern import rare_pattern

__all__ = ["WORDS", "breaks_off", "hints_at_error", "is_said", "says_error"]

_Fields: TypeAlias = Mapping[str, Any]

WORDS = ("message", "Message", "msg", "detail", "error_description", "errorMessage")
"""What an error may be told in, where nothing else says that it is one."""

# What stands around the words of an error, and of which none is an answer.
_ABOUT_ERROR = frozenset(
    {
        *(*WORDS, "code", "error", "errors", "param", "path", "statusText", "timestamp"),
        *("id", "requestId", "requestID", "request_id", "sid", "traceId", "trace_id"),
    }
)

_BROKEN_OFF = rare_pattern(
    r"(?:^|[^a-z])(?:abort|aborted|cancel|cancelled|canceled|error|exception|failed|failure"
    r"|interrupted|preempted|timeout|timed_out)(?:[^a-z]|$)|^insufficient_system_resource$",
    re.IGNORECASE,
)
# Cohere's names for a filter and for the end of the context.
_NOT_BROKEN_OFF = frozenset({"error_toxic", "error_limit"})

_CODE = rare_pattern(r"[A-Za-z][\w.-]{2,99}")
_NO_ERROR = frozenset(
    {"", "0", "null", "none", "n/a", "ok", "success", "no error", "no_error", "false"}
)
_FAILED = frozenset({"error", "fail", "failed", "failure"})


def says_error(fields: _Fields) -> bool:
    """Whether fields report an error even beside an answer."""
    return any(name in fields and test(fields[name]) for name, test in _ALWAYS)


def hints_at_error(fields: _Fields) -> bool:
    """Whether fields of which nothing more is known report an error."""
    if any(name in fields and test(fields[name]) for name, test in _WITHOUT_ANSWER):
        return True
    said = {name for name, value in fields.items() if value not in (None, "", [], {})}
    if said == {"detail"}:
        return is_said(fields["detail"])
    # A message alone may be what a server of one's own has to say.
    named = "Message" in said or _is_code_of_failure(fields.get("code"))
    return named and said <= _ABOUT_ERROR and any(isinstance(fields.get(w), str) for w in WORDS)


def breaks_off(finish_reason: str) -> bool:
    """Whether a generation that ended so broke off.

    "abort" is what vLLM and SGLang say when a pod stops, "error" vLLM, Mistral and OpenRouter,
    "network_error" Zhipu, "cancelled" and "timeout" TensorRT-LLM, "insufficient_system_resource"
    DeepSeek.
    """
    broken_off = _BROKEN_OFF.search(finish_reason) is not None
    return broken_off and finish_reason.lower() not in _NOT_BROKEN_OFF


def is_said(value: object) -> bool:
    """Whether the value of an `error` field is more than an empty form.

    Some always send the field: as null, empty, with empty fields, or with a code of success.
    """
    if isinstance(value, str):
        return value.strip().lower() not in _NO_ERROR
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        if _is_code_of_success(inner.get("code")):
            return False
        return any(is_said(one) if isinstance(one, str) else one for one in inner.values())
    if isinstance(value, list):
        return any(cast("list[object]", value))
    return bool(value) and not _is_code_of_success(value)


def _is_code_of_success(value: object) -> bool:
    number = _number(value)
    if number is None:
        return isinstance(value, str) and value.lower() in ("ok", "success")
    return number == 0 or 200 <= number <= 299


def _is_code_of_failure(value: object) -> bool:
    if _is_code_of_success(value):
        return False
    return _number(value) is not None or (
        isinstance(value, str) and _CODE.fullmatch(value) is not None
    )


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:20])
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_error_word(value: object) -> bool:
    return isinstance(value, str) and value.lower() == "error"


def _is_false(value: object) -> bool:
    if isinstance(value, str):
        return value.lower() in ("false", "0")
    return value is not None and value in (False, 0)


def _is_failed(value: object) -> bool:
    return (isinstance(value, str) and value.lower() in _FAILED) or _is_http_error(value)


def _is_http_error(value: object) -> bool:
    number = _number(value)
    return number is not None and 400 <= number <= 599


def _is_failed_base(value: object) -> bool:
    """MiniMax: `{"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}`."""
    if not isinstance(value, dict):
        return False
    return _number(cast("dict[str, Any]", value).get("status_code")) not in (None, 0, 200)


def _holds_error(value: object) -> bool:
    return isinstance(value, dict) and any(
        is_said(cast("_Fields", value).get(name)) for name in ("error", "Error")
    )


_Test: TypeAlias = Callable[[object], bool]

_ALWAYS: tuple[tuple[str, _Test], ...] = (
    ("error", is_said),  # OpenAI and most
    ("errors", is_said),  # Cloudflare and GraphQL
    ("object", _is_error_word),  # vLLM up to 0.9, SGLang
    ("type", _is_error_word),  # Anthropic's form
    ("success", _is_false),  # Cloudflare
    ("ok", _is_false),
    ("x_groq", _holds_error),
    ("base_resp", _is_failed_base),
    ("error_code", is_said),  # Baidu: {"error_code": 17, "error_msg": "…"}
    ("error_msg", is_said),
    ("fault", is_said),  # Apigee: {"fault": {"faultstring": "…"}}
)
_WITHOUT_ANSWER: tuple[tuple[str, _Test], ...] = (
    ("code", _is_http_error),
    ("status", _is_failed),
    ("statusCode", _is_http_error),  # AWS API Gateway, NestJS
    ("status_code", _is_http_error),
    ("errorMessage", is_said),  # AWS Lambda
    ("__type", is_said),  # Bedrock
    ("Error", is_said),
    ("err", is_said),
    ("Response", _holds_error),  # Tencent Cloud
    ("ResponseMetadata", _holds_error),  # Volcengine
)
