"""What a streamed answer is made of: chunks of chat and of completions, events of responses.

Fields that a server adds of its own are not in these types. `assemble` (in `client.streaming`)
keeps them all the same.
"""

from __future__ import annotations

import json
from typing import Any, Never, TypeAlias, cast

import msgspec

__all__ = [
    "ChatChoice",
    "ChatChunk",
    "ChatDelta",
    "Chunk",
    "CompletionChoice",
    "CompletionChunk",
    "FunctionDelta",
    "ResponseEvent",
    "ToolCallDelta",
    "decode_json",
    "encode_json",
]


class FunctionDelta(msgspec.Struct, frozen=True):
    """What a chunk adds to a function call: its name once, its arguments piece by piece."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True):
    """What a chunk adds to the tool call number `index` of its choice."""

    index: int = 0
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class ChatDelta(msgspec.Struct, frozen=True):
    """What a chunk adds to a message.

    `reasoning_content` and `reasoning` are two names for the same thing (vLLM, SGLang and
    llama.cpp; OpenRouter and newer vLLM).
    """

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChoice(msgspec.Struct, frozen=True):
    """One choice of a chat chunk. `logprobs` are as the server sent them."""

    index: int = 0
    delta: ChatDelta = ChatDelta()
    finish_reason: str | None = None
    logprobs: Any = None


class ChatChunk(msgspec.Struct, frozen=True):
    """One event of `/v1/chat/completions`.

    `usage` comes with the last one, whose `choices` are empty; its keys are the server's.
    """

    id: str = ""
    object: str = ""
    created: float = 0
    model: str = ""
    choices: list[ChatChoice] = []
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None

    @property
    def text(self) -> str:
        """What it adds to the content of the first choice; empty when it adds something else."""
        return "".join(one.delta.content or "" for one in self.choices if one.index == 0)


class CompletionChoice(msgspec.Struct, frozen=True):
    """One choice of a completion chunk. `logprobs` are as the server sent them."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class CompletionChunk(msgspec.Struct, frozen=True):
    """One event of `/v1/completions`; `usage` as in `ChatChunk`."""

    id: str = ""
    object: str = ""
    created: float = 0
    model: str = ""
    choices: list[CompletionChoice] = []
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None

    @property
    def text(self) -> str:
        """What it adds to the first choice."""
        return "".join(one.text for one in self.choices if one.index == 0)


class ResponseEvent(msgspec.Struct, frozen=True):
    """One event of `/v1/responses`: its type, e.g. "response.output_text.delta", and all of it."""

    type: str
    data: dict[str, Any]

    @property
    def text(self) -> str:
        """What it adds to the output text."""
        delta = self.data.get("delta")
        is_text = self.type == "response.output_text.delta" and isinstance(delta, str)
        return cast("str", delta) if is_text else ""


Chunk: TypeAlias = ChatChunk | CompletionChunk | ResponseEvent

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def decode_json(data: bytes) -> Any:
    """The value of JSON text.

    Raises ValueError for anything else. Unlike msgspec it takes half of a surrogate pair, which
    JSON allows and some servers send when they cut text between two chunks.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if b"\\u" not in data:
            raise ValueError(str(error)) from error
    try:
        return json.loads(data, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def encode_json(value: Any) -> bytes:
    """JSON of a value that may hold `msgspec.Raw` and halves of surrogate pairs."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        pass
    text = json.dumps(value, default=_decode_raw, separators=(",", ":"))
    # Two halves that arrived apart stand next to each other by now.
    return text.encode()


def _decode_raw(value: Any) -> Any:
    return decode_json(bytes(value))
