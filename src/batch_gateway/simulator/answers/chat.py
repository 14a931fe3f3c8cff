"""`/v1/chat/completions`: text, structured output, tool calls; whole or as chunks."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from batch_gateway.simulator.answers.answer import (
    Answer,
    Call,
    Generation,
    Limits,
    generate,
    read_body,
    refuse,
)
from batch_gateway.simulator.answers.answer_events import DONE, data_event
from batch_gateway.simulator.answers.json_examples import example_for
from batch_gateway.simulator.answers.token_usage import completion_usage
from batch_gateway.simulator.answers.words import count_tokens

__all__ = ["ChatAnswer", "content_tokens"]

_TOKENS_PER_MESSAGE = 4
_TOKENS_PER_IMAGE = 256
MAX_CHOICES = 128


class _Part(msgspec.Struct):
    text: str | None = None


class _Message(msgspec.Struct):
    role: str
    content: msgspec.Raw = msgspec.Raw(b"null")


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _NamedFunction(msgspec.Struct):
    name: str


class _ToolChoice(msgspec.Struct):
    type: str
    function: _NamedFunction | None = None


class _Schema(msgspec.Struct):
    schema: dict[str, Any] = {}


class _ResponseFormat(msgspec.Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class StreamOptions(msgspec.Struct):
    include_usage: bool = False


class _Body(msgspec.Struct):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    n: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    tools: list[_Tool] | None = None
    tool_choice: str | _ToolChoice | None = None
    response_format: _ResponseFormat | None = None


_decoder = msgspec.json.Decoder(_Body)
_parts_decoder = msgspec.json.Decoder(list[_Part])


def content_tokens(content: msgspec.Raw) -> int:
    """Tokens of a message's content: a string, or a list of parts of text and others."""
    raw = bytes(content)
    if not raw.startswith(b"["):
        return count_tokens(raw)
    try:
        parts = _parts_decoder.decode(raw)
    except msgspec.DecodeError as error:
        refuse(f"Invalid content part: {error}", param="messages")
    return sum(_TOKENS_PER_IMAGE if p.text is None else count_tokens(p.text) for p in parts)


class ChatAnswer(Answer):
    """The answer to one chat request."""

    def __init__(self, call: Call) -> None:
        request = read_body(_decoder, call.body)
        self._check(request)
        self.model = request.model
        self.width = request.n or 1
        self.stream = bool(request.stream)
        self.prompt_tokens = sum(
            content_tokens(m.content) + _TOKENS_PER_MESSAGE for m in request.messages
        )
        limit = request.max_completion_tokens or request.max_tokens
        limits = Limits(
            limit or call.config.default_max_tokens, request.min_tokens, request.ignore_eos
        )
        self._include_usage = bool(request.stream_options and request.stream_options.include_usage)
        self._created = call.created
        self._id = f"chatcmpl-{call.digest.hex()}"
        self._tool = _forced_tool(request)
        self._choices = self._generate(call, request, limits)
        self.output_tokens = max(len(choice.words) for choice in self._choices)
        self._messages = request.messages

    def prompt(self) -> bytes:
        return b"\n".join(m.role.encode() + b" " + bytes(m.content) for m in self._messages)

    @staticmethod
    def _check(request: _Body) -> None:
        if not request.messages:
            refuse("Invalid 'messages': empty array.", param="messages", code="empty_array")
        for name in ("max_tokens", "max_completion_tokens", "n"):
            value = getattr(request, name)
            if value is not None and value < 1:
                refuse(f"Invalid '{name}': expected at least 1, got {value}.", param=name)
        if (request.n or 1) > MAX_CHOICES:
            refuse(f"Invalid 'n': expected at most {MAX_CHOICES}, got {request.n}.", param="n")

    def _generate(self, call: Call, request: _Body, limits: Limits) -> list[Generation]:
        structured = self._structured(call, request)
        if structured is None:
            return generate(call, limits, self.width)
        # Pieces of JSON stand in for tokens; they are never cut, so that the JSON is whole.
        text = msgspec.json.encode(structured).decode()
        pieces = [text[i : i + 4] for i in range(0, len(text), 4)]
        reason = "stop" if self._tool is None else "tool_calls"
        return [_Pieces(pieces, reason)] * self.width

    def _structured(self, call: Call, request: _Body) -> Any:
        if self._tool is not None:
            return example_for({"type": "object"} | self._tool.parameters, call.digest)
        wanted = request.response_format
        if wanted is None or wanted.type == "text":
            return None
        if wanted.type == "json_schema" and wanted.json_schema is not None:
            return example_for(wanted.json_schema.schema, call.digest)
        return {"answer": example_for({"type": "string"}, call.digest)}

    # -- one body --------------------------------------------------------------------------

    def body(self) -> bytes:
        return msgspec.json.encode(
            {
                "id": self._id,
                "object": "chat.completion",
                "created": self._created,
                "model": self.model,
                "choices": [self._choice(i, c) for i, c in enumerate(self._choices)],
                "usage": self._usage(),
                "service_tier": "default",
                "system_fingerprint": "fp_simulator",
            }
        )

    def _choice(self, index: int, choice: Generation) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
        if self._tool is not None:
            message["content"] = None
            message["tool_calls"] = [self._tool_call(index, choice.text)]
        return {
            "index": index,
            "message": message,
            "logprobs": None,
            "finish_reason": choice.finish_reason,
        }

    def _tool_call(self, index: int, arguments: str) -> dict[str, Any]:
        assert self._tool is not None  # noqa: S101 - only called for tool answers
        function = {"name": self._tool.name, "arguments": arguments}
        return {"id": f"call_{self._id[-24:]}{index}", "type": "function", "function": function}

    def _usage(self) -> dict[str, Any]:
        generated = sum(len(choice.words) for choice in self._choices)
        return completion_usage(self.prompt_tokens, generated, self.cached_tokens)

    # -- chunks ----------------------------------------------------------------------------

    def opening(self) -> list[bytes]:
        return [self._chunk(i, self._first_delta(i), None) for i in range(len(self._choices))]

    def _first_delta(self, index: int) -> dict[str, Any]:
        if self._tool is None:
            return {"role": "assistant", "content": "", "refusal": None}
        call = {"index": 0, **self._tool_call(index, "")}
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}

    def tokens(self, start: int, stop: int) -> list[bytes]:
        return [
            self._chunk(i, self._delta(choice.piece(token)), None)
            for token in range(start, stop)
            for i, choice in enumerate(self._choices)
            if token < len(choice.words)
        ]

    def _delta(self, piece: str) -> dict[str, Any]:
        if self._tool is None:
            return {"content": piece}
        return {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}

    def closing(self) -> list[bytes]:
        events = [self._chunk(i, {}, c.finish_reason) for i, c in enumerate(self._choices)]
        if self._include_usage:
            events.append(data_event(self._chunk_frame([], self._usage())))
        return [*events, DONE]

    def _chunk(self, index: int, delta: dict[str, Any], reason: str | None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": reason}
        return data_event(self._chunk_frame([choice], None))

    def _chunk_frame(self, choices: list[Any], usage: dict[str, Any] | None) -> dict[str, Any]:
        frame: dict[str, Any] = {
            "id": self._id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.model,
            "service_tier": "default",
            "system_fingerprint": "fp_simulator",
            "choices": choices,
        }
        # Asked for usage, OpenAI puts it into every chunk: null in all but the last.
        return frame | {"usage": usage} if self._include_usage else frame


class _Pieces(Generation):
    """A generation whose tokens are pieces of text without spaces between them."""

    @property
    def text(self) -> str:
        return "".join(self.words)

    def piece(self, index: int) -> str:
        return self.words[index]


def _forced_tool(request: _Body) -> _Function | None:
    """The function that must be called, or None when text will do."""
    functions = [tool.function for tool in request.tools or () if tool.function is not None]
    choice = request.tool_choice
    if choice is None or choice in ("auto", "none"):
        return None
    if not functions:
        refuse("'tool_choice' is only allowed when 'tools' are specified.", param="tools")
    if choice == "required":
        return functions[0]
    if isinstance(choice, str) or choice.function is None:
        refuse(f"Invalid 'tool_choice': {choice!r}.", param="tool_choice")
    wanted = choice.function.name
    named = [function for function in functions if function.name == wanted]
    if not named:
        refuse(f"Tool choice '{wanted}' is not among 'tools'.", param="tool_choice")
    return named[0]
