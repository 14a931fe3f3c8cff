"""What an endpoint picker answered, for a person and for a program; without secrets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from batch_gateway.client.ask_picker import Picked
from batch_gateway.client.config import HTTPInferenceClientConfig
from batch_gateway.http.redaction import Redactor, is_credential
from batch_gateway.http.response_errors import refusal_error
from batch_gateway.http.sent_secrets import redactor_of

__all__ = ["DROPPED_REASONS", "as_object", "as_text"]

_MOST_LINES = 40
_LONGEST_LINE = 200
_NOT_SHOWN = "(not shown)"

# Of llm-d's router, v0.10.
DROPPED_REASONS = {
    "rejected-saturated": "the queue is full; fewer requests at a time get through",
    "rejected-ttl-expired": "it waited in the queue for as long as it, or any, may",
    "rejected-no-endpoints": "no pod is ready, or none is in the subset",
    "rejected-shutting-down": "the picker is ending; another replica takes over",
    "rejected-context-cancelled": "whoever asked went away meanwhile",
    "evicted": "it was given up for a more urgent request",
    "evicted-priority": "it was given up for a request of higher priority",
    "evicted-queue-pressure": "it was given up because too much was waiting",
}


def as_text(gateway: HTTPInferenceClientConfig, picked: Picked) -> str:
    """Several lines for a person; a long body is cut."""
    shown = as_object(gateway, picked)
    return "\n".join(_refused(shown) if picked.refusal is not None else _chosen(shown))


def as_object(gateway: HTTPInferenceClientConfig, picked: Picked) -> dict[str, Any]:
    """Everything, as JSON has it; the body as what it is, or as text where it is no JSON."""
    redact = redactor_of(gateway)
    found: dict[str, Any] = {"gateway": gateway.base_url, "seconds": round(picked.seconds, 6)}
    refusal = picked.refusal
    if refusal is not None:
        hints = gateway.scheduling
        asked = hints is not None and hints.ttl is not None
        error = refusal_error(refusal, time.time(), redact, ttl_asked=asked)
        return {
            **found,
            "refused": {
                "status": refusal.status_code,
                "message": error.message,
                "category": error.category.value,
                "retryable": error.is_retryable,
                "dropped_reason": error.dropped_reason,
                "meaning": DROPPED_REASONS.get(error.dropped_reason or ""),
                "headers": _shown_headers(refusal.headers, redact),
                "body": _body(redact.in_bytes(refusal.body)),
            },
        }
    return {
        **found,
        "endpoint": picked.endpoints[0],
        "fallbacks": list(picked.endpoints[1:]),
        "path": picked.path,
        "headers": _shown_headers(picked.headers, redact),
        "headers_set": _shown_headers(picked.headers_set, redact),
        "headers_removed": list(picked.headers_removed),
        "body_rewritten": picked.body_rewritten,
        "body_bytes": len(picked.body),
        "body": _body(redact.in_bytes(picked.body)),
    }


def _chosen(shown: Mapping[str, Any]) -> Iterator[str]:
    yield f"Pod        {shown['endpoint']}"
    yield f"Fallbacks  {', '.join(shown['fallbacks']) or 'none'}"
    yield f"Request    POST {shown['path']}"
    yield f"Took       {_duration(shown['seconds'])}"
    if shown["headers_set"]:
        yield "Headers that the picker sets"
        yield from (f"  {name}: {value}" for name, value in shown["headers_set"].items())
    if shown["headers_removed"]:
        yield f"Headers that it removes: {', '.join(shown['headers_removed'])}"
    how = "rewritten by the picker" if shown["body_rewritten"] else "as it was asked about"
    yield f"Body       {shown['body_bytes']:,} bytes, {how}"
    yield from _indented(shown["body"])


def _refused(shown: Mapping[str, Any]) -> Iterator[str]:
    refused = shown["refused"]
    yield f"Refused    {refused['message']}"
    if refused["meaning"]:
        yield f"Meaning    {refused['meaning']}"
    yield f"Took       {_duration(shown['seconds'])}"
    again = "yes, after a while" if refused["retryable"] else "no"
    yield f"Try again  {again} ({refused['category']})"
    if refused["headers"]:
        yield "Headers"
        yield from (f"  {name}: {value}" for name, value in refused["headers"].items())
    if refused["body"] not in (None, ""):
        yield "Body"
        yield from _indented(refused["body"])


def _indented(body: object) -> Iterator[str]:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    lines = text.splitlines()
    for line in lines[:_MOST_LINES]:
        yield f"  {line if len(line) <= _LONGEST_LINE else line[: _LONGEST_LINE - 1] + '…'}"
    if len(lines) > _MOST_LINES:
        yield f"  … {len(lines) - _MOST_LINES:,} more lines; --json shows all"


def _shown_headers(headers: Mapping[str, str], redact: Redactor) -> dict[str, str]:
    return {
        name: _NOT_SHOWN if is_credential(name) else redact.in_text(value)
        for name, value in headers.items()
    }


def _body(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode("utf-8", "replace")


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:,.1f} ms" if seconds < 1 else f"{seconds:,.1f} s"
