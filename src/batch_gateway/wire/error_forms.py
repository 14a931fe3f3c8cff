"""The forms in which bodies of a 2xx status report an error all the same. Pure.

A form is a field and a test of its value. Some say an error whatever else is in the body; others
are ordinary words, such as `detail` or `status`, which count only where there is no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

__all__ = ["ABORTED", "hints_at_error", "is_said", "says_error"]

_Fields: TypeAlias = Mapping[str, Any]

ABORTED = frozenset(
    {
        *("abort", "aborted", "cancel", "cancelled", "canceled", "error", "failed", "timeout"),
        *("interrupted", "insufficient_system_resource"),
    }
)
"""Values of `finish_reason` under which a generation broke off: "abort" of vLLM and SGLang when a
pod stops, "error" of vLLM, Mistral and OpenRouter, "cancelled" and "timeout" of TensorRT-LLM,
"insufficient_system_resource" of DeepSeek."""

_NO_ERROR = frozenset({"", "0", "null", "none", "ok", "success", "no error", "false"})
_FAILED = frozenset({"error", "fail", "failed", "failure"})


def says_error(fields: _Fields) -> bool:
    """Whether fields report an error even beside an answer."""
    return any(name in fields and test(fields[name]) for name, test in _ALWAYS)


def hints_at_error(fields: _Fields) -> bool:
    """Whether fields of which nothing more is known report an error."""
    if any(name in fields and test(fields[name]) for name, test in _WITHOUT_ANSWER):
        return True
    said = [name for name, value in fields.items() if value is not None]
    return said == ["detail"] and is_said(fields["detail"])


def is_said(value: object) -> bool:
    """Whether the value of an `error` field is more than an empty form.

    Some always send the field: as null, empty, with empty fields, or with a code of success.
    """
    if isinstance(value, str):
        return value.strip().lower() not in _NO_ERROR
    if isinstance(value, dict):
        inner = cast("dict[str, Any]", value)
        return any(inner.values()) and not _is_code_of_success(inner.get("code"))
    if isinstance(value, list):
        return any(cast("list[object]", value))
    return bool(value) and not _is_code_of_success(value)


def _is_code_of_success(value: object) -> bool:
    number = _number(value)
    if number is None:
        return isinstance(value, str) and value.lower() in ("ok", "success")
    return number == 0 or 200 <= number <= 299


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:20])
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _is_error_word(value: object) -> bool:
    return isinstance(value, str) and value.lower() == "error"


def _is_false(value: object) -> bool:
    return value is False or (isinstance(value, str) and value.lower() == "false")


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


_Test: TypeAlias = Callable[[object], bool]

_ALWAYS: tuple[tuple[str, _Test], ...] = (
    ("error", is_said),  # OpenAI and most
    ("errors", is_said),  # Cloudflare and GraphQL
    ("object", _is_error_word),  # vLLM up to 0.9, SGLang
    ("type", _is_error_word),  # Anthropic's form
    ("success", _is_false),  # Cloudflare
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
)
