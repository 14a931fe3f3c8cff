"""What a streamed answer is made of: chunks of chat and of completions, events of responses.

Fields that a server adds of its own are in the `raw` of a chunk alone, as are those that are not
of the type that they should be. `assemble` (in `client.streaming`) keeps them all the same.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
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
    "chat_chunk",
    "chat_chunk_of_body",
    "completion_chunk",
    "decode_json",
    "encode_json",
    "index_in",
]


# None of these can be part of a circle, and the collector need not look at one for each token.


class FunctionDelta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds to a function call: its name once, its arguments piece by piece."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds to the tool call number `index` of its choice."""

    index: int = 0
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None


class ChatDelta(msgspec.Struct, frozen=True, gc=False):
    """What a chunk adds to a message.

    `reasoning_content` and `reasoning` are two names for the same thing (vLLM, SGLang and
    llama.cpp; OpenRouter and newer vLLM). `content` that a server sends as a list of parts is the
    text of its text parts.
    """

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


_NO_DELTA = ChatDelta()


class ChatChoice(msgspec.Struct, frozen=True, gc=False):
    """One choice of a chat chunk. `logprobs` are as the server sent them."""

    index: int = 0
    delta: ChatDelta = _NO_DELTA
    finish_reason: str | None = None
    logprobs: Any = None


class ChatChunk(msgspec.Struct, frozen=True, gc=False):
    """One event of `/v1/chat/completions`.

    `usage` comes with the last one, whose `choices` are empty; its keys are the server's. What is
    not of the type that it should be is only in `raw`.
    """

    id: str = ""
    object: str = ""
    created: float = 0
    model: str = ""
    choices: list[ChatChoice] = []
    usage: dict[str, Any] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    _raw: Any = msgspec.field(default_factory=dict[str, Any], name="raw")

    @property
    def raw(self) -> Mapping[str, Any]:
        """All that the server sent."""
        return _unpacked(self)

    @property
    def text(self) -> str:
        """What it adds to the content of the first choice; empty when it adds something else."""
        choices = self.choices
        if len(choices) == 1 and choices[0].index == 0:
            return choices[0].delta.content or ""
        return "".join([one.delta.content or "" for one in choices if one.index == 0])


class CompletionChoice(msgspec.Struct, frozen=True, gc=False):
    """One choice of a completion chunk. `logprobs` are as the server sent them."""

    text: str = ""
    index: int = 0
    finish_reason: str | None = None
    logprobs: Any = None


class CompletionChunk(msgspec.Struct, frozen=True, gc=False):
    """One event of `/v1/completions`; `usage` and `raw` as in `ChatChunk`."""

    id: str = ""
    object: str = ""
    created: float = 0
    model: str = ""
    choices: list[CompletionChoice] = []
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    _raw: Any = msgspec.field(default_factory=dict[str, Any], name="raw")

    @property
    def raw(self) -> Mapping[str, Any]:
        """All that the server sent."""
        return _unpacked(self)

    @property
    def text(self) -> str:
        """What it adds to the first choice."""
        return "".join(one.text for one in self.choices if one.index == 0)


class ResponseEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of `/v1/responses`: its type, e.g. "response.output_text.delta", and all of it."""

    type: str
    data: Mapping[str, Any]

    @property
    def raw(self) -> Mapping[str, Any]:
        """The same as `data`, under the name that the other chunks have for it."""
        return self.data

    @property
    def text(self) -> str:
        """What it adds to the output text."""
        delta = self.data.get("delta")
        is_text = self.type == "response.output_text.delta" and isinstance(delta, str)
        return cast("str", delta) if is_text else ""


def _unpacked(chunk: ChatChunk | CompletionChunk) -> Mapping[str, Any]:
    """Decoded now, where nobody has asked for it before."""
    raw: Any = chunk._raw  # pyright: ignore[reportPrivateUsage]
    if isinstance(raw, msgspec.Raw):
        raw = decode_json(bytes(raw))
        msgspec.structs.force_setattr(chunk, "_raw", raw)
    return raw


Chunk: TypeAlias = ChatChunk | CompletionChunk | ResponseEvent
"""One event of a streamed answer, by the endpoint that it is of."""


def chat_chunk(value: Mapping[str, Any]) -> ChatChunk:
    """An event of `/v1/chat/completions`, typed; an odd field is None or its default."""
    try:
        chunk = msgspec.convert(value, ChatChunk)
    except (msgspec.ValidationError, UnicodeEncodeError):
        chunk = None
    if chunk is None or (chunk.choices and chunk.choices[0].delta is _NO_DELTA):
        choices = _mended_choices(value.get("choices"), _mended_chat_choice)
        chunk = msgspec.convert({**_fitting(value, _FRAME), "choices": choices}, ChatChunk)
    # Not as an argument: that would copy it.
    msgspec.structs.force_setattr(chunk, "_raw", value)
    return chunk


def completion_chunk(value: Mapping[str, Any]) -> CompletionChunk:
    """An event of `/v1/completions`, or all of an answer, as `chat_chunk`."""
    try:
        chunk = msgspec.convert(value, CompletionChunk)
    except (msgspec.ValidationError, UnicodeEncodeError):
        chunk = None
    if chunk is None or not all(one.text for one in chunk.choices):
        choices = _mended_choices(value.get("choices"), _mended_completion_choice)
        chunk = msgspec.convert({**_fitting(value, _FRAME), "choices": choices}, CompletionChunk)
    msgspec.structs.force_setattr(chunk, "_raw", value)
    return chunk


def chat_chunk_of_body(body: Mapping[str, Any]) -> ChatChunk:
    """A whole chat answer as one chunk, for a server that did not stream."""
    choices: list[dict[str, Any]] = []
    for choice in _objects(body.get("choices")):
        message = _object(choice.get("message"))
        calls = _objects(message.get("tool_calls"))
        numbered = [{"index": place, **call} for place, call in enumerate(calls)]
        choices.append({**choice, "delta": {**message, "tool_calls": numbered or None}})
    chunk = chat_chunk({**body, "choices": choices, "object": "chat.completion.chunk"})
    msgspec.structs.force_setattr(chunk, "_raw", body)
    return chunk


# --- what is left of a chunk that has odd fields ---

_Kinds = Mapping[str, type | tuple[type, ...]]
_FRAME: _Kinds = {
    **dict.fromkeys(("id", "object", "model", "service_tier", "system_fingerprint"), str),
    "created": (int, float),
    "usage": dict,
}
_CHOICE: _Kinds = {"finish_reason": str, "text": str, "logprobs": (dict, list)}
_DELTA: _Kinds = dict.fromkeys(
    ("role", "content", "reasoning_content", "reasoning", "refusal"), str
)
_CALL: _Kinds = {"id": str, "type": str}
_FUNCTION: _Kinds = {"name": str, "arguments": str}


def _fitting(value: Mapping[str, Any], kinds: _Kinds) -> dict[str, Any]:
    """The fields that are of their kind."""
    return {
        name: value[name]
        for name, kind in kinds.items()
        if isinstance(value.get(name), kind) and not _is_no_number(value[name])
    }


def _is_no_number(value: object) -> bool:
    """Whether this would be taken for a number and is none that a float holds."""
    return isinstance(value, bool) or (isinstance(value, int) and value.bit_length() > _MOST_BITS)


def _mended_choices(
    choices: Any, mended: Callable[[dict[str, Any]], dict[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {**mended(choice), "index": _index_or(place, choice)}
        for place, choice in enumerate(_objects(choices))
    ]


def _mended_chat_choice(choice: dict[str, Any]) -> dict[str, Any]:
    given = choice.get("delta")
    if given is None:
        given = {"content": choice.get("text")}
    delta = _object(given)
    mended = _fitting(delta, _DELTA)
    text = _text_of_parts(delta.get("content"))
    if text:
        mended["content"] = text
    calls = delta.get("tool_calls")
    if isinstance(calls, list | dict):
        mended["tool_calls"] = [_mended_call(call) for call in _objects(calls)]
    return {**_fitting(choice, _CHOICE), "delta": mended}


def _mended_call(call: dict[str, Any]) -> dict[str, Any]:
    mended = {**_fitting(call, _CALL), "index": _index_or(0, call)}
    if isinstance(call.get("function"), dict):
        mended["function"] = _fitting(_object(call["function"]), _FUNCTION)
    return mended


def _mended_completion_choice(choice: dict[str, Any]) -> dict[str, Any]:
    text = _text_of_parts(_object(choice.get("delta")).get("content"))
    return {"text": text, **_fitting(choice, _CHOICE)}


def _text_of_parts(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = _objects(content)
    texts = [
        part.get("text") for part in parts if part.get("type") in (None, "text", "output_text")
    ]
    return "".join(text for text in texts if isinstance(text, str))


# Below it a float holds every integer.
_MOST_EXACT = 2**53


def index_in(entry: Mapping[str, Any]) -> int | None:
    """The number that an entry of a list says; some servers write it as text, or as 0.0."""
    index: Any = entry.get("index")
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        return int(index)
    if isinstance(index, float) and index.is_integer() and abs(index) < _MOST_EXACT:
        return int(index)
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _index_or(default: int, entry: Mapping[str, Any]) -> int:
    index = index_in(entry)
    return default if index is None else index


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; one that stands where a list should is a list of it."""
    entries = cast("list[Any]", value if isinstance(value, list) else [value])
    return [entry for entry in entries if isinstance(entry, dict)]


_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_MOST_DIGITS = 300
_MOST_BITS = 1000


def decode_json(data: bytes) -> Any:
    """The value of JSON text.

    Raises ValueError for anything else. Unlike msgspec it takes half of a surrogate pair, which
    JSON allows and some servers send when they cut text between two chunks, and numbers that are
    too large for a double, which become the largest.
    """
    try:
        return _decode(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = str(error)
    try:
        return json.loads(data.decode(), parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(problem) from error


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is not JSON")


def _float(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else math.copysign(sys.float_info.max, number)


def _int(digits: str) -> float:
    # Those of more than 4,300 digits Python refuses to read, of more than 308 no float holds.
    return int(digits) if len(digits) < _MOST_DIGITS else _float(digits)


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
