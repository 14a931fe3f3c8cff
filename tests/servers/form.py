"""What a server says, byte for byte, and what it is to be turned into: rows of the tables in docs.

Each row is driven over a real socket; the tables in `docs/servers.md` and `docs/errors.md` are made
from the rows and held against them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "HELLO",
    "TOKENS",
    "USAGE",
    "Asked",
    "Form",
    "Vendor",
    "chat",
    "delta",
    "events",
    "flat_error",
    "framed",
    "reply",
]

# Of every answer.
TOKENS = 3

Asked = Literal["chat", "stream", "completions", "stream completions", "responses", "embeddings"]


@dataclass(frozen=True)
class Form:
    """One row.

    Attributes:
        says: what the server does, in the words of the docs.
        wire: a whole HTTP response.
        becomes: what it is turned into, in the docs' words; see `tests.servers.driving`.
        words: what the message of the error, or the text of the answer, has in it.
        asked: how it is asked; "stream" is read by `stream()` and through `stream_upstream`.
    """

    says: str
    wire: bytes
    becomes: str
    words: str = ""
    asked: Asked = "chat"


@dataclass(frozen=True)
class Vendor:
    """One section of the page.

    Attributes:
        bases: the URLs to give, as the vendor has them, and where a chat request then goes.
        forms: what is known of its answers.
    """

    name: str
    bases: dict[str, str]
    forms: tuple[Form, ...]


def framed(status: int, body: bytes, kind: str = "application/json", **headers: str) -> bytes:
    """A response with its length. Names of headers have "_" for "-"."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def reply(status: int, value: Any, **headers: str) -> bytes:
    """JSON, or text as it is."""
    if isinstance(value, str):
        return framed(status, value.encode(), "text/plain", **headers)
    return framed(status, json.dumps(value).encode(), **headers)


def events(*data: Any, done: bool = True, before: str = "") -> bytes:
    """An event stream, chunked as servers do it; text goes out as it is."""
    lines = [d if isinstance(d, str) else f"data: {json.dumps(d)}\n\n" for d in data]
    body = (before + "".join(lines) + ("data: [DONE]\n\n" if done else "")).encode()
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def flat_error(message: str, kind: str, code: int) -> dict[str, Any]:
    """Of older vLLM, and of the servers that took its form over."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def chat(content: str | None, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": finish, **more}
    usage = {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 12}
    return {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": fields, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "choices": [choice]}


USAGE = {
    "id": "c",
    "object": "chat.completion.chunk",
    "choices": [],
    "usage": {"prompt_tokens": 9, "completion_tokens": TOKENS, "total_tokens": 12},
}
HELLO = (delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"))
