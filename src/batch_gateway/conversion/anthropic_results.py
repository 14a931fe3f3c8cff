"""Results of Anthropic's message batches as those of OpenAI's Batch API, and the reverse. Pure.

https://platform.claude.com/docs/en/api/messages/batches/results and .../api/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch_gateway.conversion.anthropic_requests import tool_call_of, tool_use_of
from batch_gateway.conversion.fields import CannotSayError, Fields

__all__ = ["line_of_result", "result_of_line"]

_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STOPS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_STATUS_OF_ERROR = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_ERROR_OF_STATUS = {status: kind for kind, status in _STATUS_OF_ERROR.items()}
_UNSENT = {"canceled": "batch_cancelled", "expired": "batch_expired"}
_ENDS = {code: kind for kind, code in _UNSENT.items()}
# How tokens came to be counted and charged, beside how many there were.
_OF_USAGE = ("cache_creation", "server_tool_use", "service_tier", "inference_geo")


def line_of_result(result: Fields, custom_id: str) -> dict[str, Any]:
    """The line of OpenAI's results. Raises CannotSayError."""
    kind = result.text("type")
    line: dict[str, Any] = {"id": f"batch_req_{custom_id}", "custom_id": custom_id}
    if kind in _UNSENT:
        words = f"the request was {kind} before it was sent"
        line |= {"response": None, "error": {"code": _UNSENT[kind], "message": words}}
    elif kind == "succeeded":
        message = result.inner("message")
        line |= {"response": _answer(message), "error": None}
        message.end(harmless=("type", "role", "container", "context_management"))
    elif kind == "errored":
        line |= {"response": _refusal(result.inner("error")), "error": None}
    else:
        raise CannotSayError(f"{result.path('type')}: {kind} is no end of a request")
    result.end()
    return line


def _refusal(outer: Fields) -> dict[str, Any]:
    request_id = outer.take("request_id", "")
    outer.take("type")
    error = outer.inner("error")
    kind, words = error.text("type"), error.text("message")
    error.end(harmless=("details",))
    outer.end()
    said = {"message": words, "type": kind, "param": None, "code": kind}
    status = _STATUS_OF_ERROR.get(kind, 500)
    return {"status_code": status, "request_id": request_id, "body": {"error": said}}


def _answer(message: Fields) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": None}
    texts, calls = list[str](), list[dict[str, Any]]()
    for block in message.items("content"):
        kind = block.text("type")
        if kind == "text":
            texts.append(block.text("text"))
        elif kind == "thinking":
            said["reasoning_content"] = said.get("reasoning_content", "") + block.text("thinking")
        elif kind == "tool_use":
            calls.append(tool_call_of(block))
        else:
            raise CannotSayError(f"{block.path('type')}: {kind} has no place in a chat's answer")
        block.end()
    if texts or not calls:
        said["content"] = "".join(texts)
    if calls:
        said["tool_calls"] = calls
    reason = message.text("stop_reason")
    if reason not in _REASONS:
        raise CannotSayError(f"{message.path('stop_reason')}: {reason} is none of a chat's")
    choice = {"index": 0, "message": said, "finish_reason": _REASONS[reason], "logprobs": None}
    sequence = message.take("stop_sequence")
    if sequence is not None:
        choice["stop_reason"] = sequence  # where vLLM says it
    answer_id = message.text("id")
    body = {
        "id": answer_id,
        "object": "chat.completion",
        "created": 0,
        "model": message.text("model"),
        "choices": [choice],
        "usage": _tokens(message.inner("usage")),
    }
    return {"status_code": 200, "request_id": answer_id, "body": body}


def _tokens(usage: Fields) -> dict[str, Any]:
    cached = usage.take("cache_read_input_tokens", 0)
    before = usage.take("input_tokens", 0) + usage.take("cache_creation_input_tokens", 0) + cached
    after = usage.take("output_tokens", 0)
    usage.end(harmless=_OF_USAGE)
    return {
        "prompt_tokens": before,
        "completion_tokens": after,
        "total_tokens": before + after,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def result_of_line(line: Fields) -> dict[str, Any]:
    """The `result` of a line of OpenAI's results. Raises CannotSayError."""
    response, error = line.take("response"), line.take("error")
    if error is not None:
        told = Fields(error, "error", line.losses)
        code, words = told.take("code", ""), told.take("message", "")
        if code in _ENDS:
            return {"type": _ENDS[code]}
        return _errored("api_error", words or code)
    answer = Fields(response, "response", line.losses)
    status, body = answer.take("status_code"), answer.inner("body")
    request_id = answer.take("request_id", "")
    answer.end()
    if status != 200:
        words = body.refusal() or f"HTTP {status}"
        return _errored(_ERROR_OF_STATUS.get(status, "api_error"), words)
    return {"type": "succeeded", "message": _message(body, request_id)}


def _errored(kind: str, words: str) -> dict[str, Any]:
    inner = {"type": kind, "message": words}
    return {"type": "errored", "error": {"type": "error", "error": inner}}


def _message(body: Fields, request_id: str) -> dict[str, Any]:
    choices = list(body.items("choices"))
    if len(choices) != 1:
        raise CannotSayError(f"{body.path('choices')} are {len(choices)}, and there is one answer")
    (choice,) = choices
    said = choice.inner("message")
    content = list[dict[str, Any]]()
    thought = said.take("reasoning_content") or said.take("reasoning")
    if thought:
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    text = said.take("content")
    if text:
        content.append({"type": "text", "text": text})
    content += (tool_use_of(call, ("type", "index")) for call in said.items("tool_calls"))
    said.end(harmless=("role", "annotations"))
    reason, sequence = choice.text("finish_reason"), choice.take("stop_reason")
    if reason not in _STOPS:
        raise CannotSayError(f"{choice.path('finish_reason')}: {reason} has no place there")
    choice.end(harmless=("index",))
    stopped = reason == "stop" and isinstance(sequence, str)
    message = {
        "id": body.take("id", request_id),
        "type": "message",
        "role": "assistant",
        "model": body.text("model"),
        "content": content,
        "stop_reason": "stop_sequence" if stopped else _STOPS[reason],
        "stop_sequence": sequence if stopped else None,
        "usage": _usage(body.take("usage", {})),
    }
    body.end(
        harmless=("object", "created", "system_fingerprint", "service_tier", "kv_transfer_params")
    )
    return message


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    details: Mapping[str, Any] = usage.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    return {
        "input_tokens": (usage.get("prompt_tokens") or 0) - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": usage.get("completion_tokens") or 0,
    }
