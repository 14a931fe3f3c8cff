"""The one chat request that every client sends and the one answer that the server gives."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["ANSWER", "ANSWER_TEXT", "EVENTS", "EVENT_COUNT", "PATH", "REQUEST", "batch_line"]

PATH = "/v1/chat/completions"

_SYSTEM = (
    "You classify support tickets for a hosting company. Answer with one JSON object that has "
    "the keys category, urgency and summary. The categories are billing, network, storage, "
    "login and other. Urgency goes from 1, can wait a week, to 5, a customer is down. The "
    "summary is one sentence in plain English without names or addresses. Never add anything "
    "before or after the object, and never invent facts that the ticket does not state."
)
_TICKET = (
    "Ticket: since this morning our web shop answers with error 502 about every third time. "
    "We changed nothing on our side. The monitoring page of your data centre shows all green, "
    "but from two offices in different cities we see the same picture. Orders are being lost, "
    "so please look at it as soon as you can. Restarting the container from the panel helped "
    "for about ten minutes, then it started again. The access log has lines with upstream "
    "timed out in them. The site runs on the two machines that we rented in the spring."
)

REQUEST: dict[str, Any] = {
    "model": "llama-3-8b-instruct",
    "messages": [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": _TICKET},
    ],
    "temperature": 0.2,
    "max_tokens": 128,
}

ANSWER_TEXT = (
    '{"category": "network", "urgency": 5, "summary": "A web shop has answered about a third '
    "of its requests with gateway errors since this morning; a restart helps for ten minutes "
    'and the log shows upstream timeouts."}'
)

_ANSWER = {
    "id": "chatcmpl-8f14e45fceea167a5a36dedd4bea2543",
    "object": "chat.completion",
    "created": 1790000000,
    "model": "llama-3-8b-instruct",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": ANSWER_TEXT},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 241, "completion_tokens": 55, "total_tokens": 296},
    "service_tier": "default",
    "system_fingerprint": "fp_9a1c3f7b22d04e58",
}
ANSWER: bytes = json.dumps(_ANSWER, separators=(",", ":")).encode()

EVENT_COUNT = 16


def _events() -> bytes:
    """The same answer as a stream. No longer, because nginx takes at most 4 KiB."""
    size = -(-len(ANSWER_TEXT) // (EVENT_COUNT - 2))
    frame = {"id": "chatcmpl-8f14e45f", "object": "chat.completion.chunk", "model": "llama-3"}
    deltas: list[tuple[dict[str, str], str | None]] = [
        ({"content": ANSWER_TEXT[start : start + size]}, None)
        for start in range(0, len(ANSWER_TEXT), size)
    ]
    chunks: list[dict[str, Any]] = [
        {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*deltas, ({}, "stop")]
    ]
    chunks.append({**frame, "choices": [], "usage": _ANSWER["usage"]})
    lines = [json.dumps(chunk, separators=(",", ":")).encode() for chunk in chunks]
    return b"".join(b"data: " + line + b"\n\n" for line in [*lines, b"[DONE]"])


EVENTS: bytes = _events()


def batch_line(number: int, body_bytes: int) -> bytes:
    """One line of an OpenAI Batch file whose body is padded to about `body_bytes`."""
    body = {
        "model": "llama-3-8b-instruct",
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": ""},
        ],
        "max_tokens": 64,
    }
    text = f"Question {number}: " + "why is the sky blue at noon and red at dusk? " * (
        body_bytes // 46 + 1
    )
    missing = body_bytes - len(json.dumps(body, separators=(",", ":")))
    body["messages"][1]["content"] = text[: max(missing, 16)]  # type: ignore[index]
    line = {"custom_id": f"request-{number}", "method": "POST", "url": PATH, "body": body}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"
