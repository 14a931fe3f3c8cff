"""Chunks of a streamed answer to the body that the same request gets without streaming. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import msgspec

from batch_gateway.client.streaming.merging import (
    ENTRY_BYTES,
    Allowance,
    AnswerTooLargeError,
    MalformedDeltaError,
    MergedList,
    MergedObject,
)
from batch_gateway.errors import InvalidRequestError
from batch_gateway.wire.chunks import (
    ChatChunk,
    Chunk,
    CompletionChunk,
    ResponseEvent,
    encode_json,
)

__all__ = [
    "AnswerTooLargeError",
    "Assembler",
    "IncompleteAnswerError",
    "MalformedDeltaError",
    "assemble",
    "assembler_for",
    "is_streamable",
]

_DONE = b"[DONE]"
_NO_LIMIT = 2**62


class IncompleteAnswerError(Exception):
    """The stream ended before the answer did; says what is missing."""


class Assembler(Protocol):
    """Takes in the chunks of one answer in the order they came, and makes the body of them."""

    @property
    def complete(self) -> bool:
        """Whether the server said that nothing more follows."""
        ...

    def add(self, value: Mapping[str, Any]) -> bool:
        """Take in a chunk; whether something generated is in it.

        Raises MalformedDeltaError for what is no chunk, AnswerTooLargeError past the limit.
        """
        ...

    def end(self) -> None:
        """The server said `[DONE]`."""
        ...

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        """The same chunk for whoever reads it. Raises MalformedDeltaError."""
        ...

    def chunk_of_body(self, body: dict[str, Any]) -> Chunk:
        """A whole answer as one chunk, for a server that did not stream."""
        ...

    def body(self) -> bytes:
        """The JSON of the whole answer. Raises IncompleteAnswerError."""
        ...


def assemble(endpoint: str, events: Iterable[bytes]) -> bytes:
    """The body that the data of these events make, `[DONE]` included.

    Raises IncompleteAnswerError, MalformedDeltaError, and ValueError for what is not JSON.
    """
    assembler = assembler_for(endpoint, _NO_LIMIT)
    for data in events:
        if data == _DONE:
            assembler.end()
        else:
            value: Any = msgspec.json.decode(data)
            assembler.add(value)
    return assembler.body()


def is_streamable(endpoint: str) -> bool:
    """Whether answers of this endpoint come in chunks that can be put together."""
    return any(endpoint.endswith(path) for path in _KINDS)


def assembler_for(endpoint: str, limit: int) -> Assembler:
    """The assembler of an endpoint's answers, of at most `limit` bytes.

    Raises InvalidRequestError for endpoints that do not stream.
    """
    for path, kind in _KINDS.items():
        if endpoint.endswith(path):
            return kind(limit)
    raise InvalidRequestError(
        f"{endpoint} cannot be streamed; {', '.join('/v1' + path for path in _KINDS)} can"
    )


class _ChoicesAssembler:
    """What chat and completions share."""

    frame: tuple[str, ...]
    choice_order: tuple[str, ...]

    def __init__(self, limit: int) -> None:
        self._allowance = Allowance(limit)
        self._frame: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}
        self._said_done = False

    @property
    def complete(self) -> bool:
        return self._said_done

    def end(self) -> None:
        self._said_done = True

    def add(self, value: Mapping[str, Any]) -> bool:
        if not isinstance(value, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MalformedDeltaError("it is not an object")
        generated, frame = False, self._frame
        for name, part in value.items():
            if name == "choices":
                generated = self._add_choices(part)
            elif name not in frame or (part is not None and frame[name] != part):
                # Nearly every chunk says the same about the answer as the first.
                self._set(frame, name, part)
        return generated

    def body(self) -> bytes:
        if not self._choices:
            raise IncompleteAnswerError("no choice had arrived")
        if not all(choice.get("finish_reason") for choice in self._choices.values()):
            raise IncompleteAnswerError("there was no finish_reason")
        if not self._said_done:
            raise IncompleteAnswerError("there was no [DONE]")
        choices = [self._finished(index, choice) for index, choice in sorted(self._choices.items())]
        kind = str(self._frame.get("object") or "").removesuffix(".chunk")
        frame = {**self._frame, "object": kind, "choices": choices}
        return encode_json(_ordered(frame, self.frame))

    # --- one chunk ---

    def _add_choices(self, choices: Any) -> bool:
        if choices is None:
            return False
        if not isinstance(choices, list):
            raise MalformedDeltaError("its choices are not a list")
        generated = False
        for given in cast("list[Any]", choices):
            if not isinstance(given, dict):
                raise MalformedDeltaError("a choice of it is not an object")
            if self._add_choice(cast("dict[str, Any]", given)):
                generated = True
        return generated

    def _add_choice(self, given: dict[str, Any]) -> bool:
        index: Any = given.get("index") or 0
        if not isinstance(index, int) or isinstance(index, bool):
            raise MalformedDeltaError("the index of a choice is not a number")
        choice = self._choices.get(index)
        if choice is None:
            self._allowance.spend(200)
            choice = self._choices[index] = {}
        generated = False
        for name, part in given.items():
            if part is None and name in choice:
                continue
            if name in ("delta", "text"):
                generated = self._add_output(choice, part) or generated
            elif name == "logprobs":
                self._grow(choice, name, part, MergedObject)
            elif name == "finish_reason" and not isinstance(part, str | None):
                raise MalformedDeltaError("a finish_reason is not text")
            elif isinstance(part, list):
                self._grow(choice, name, cast("list[Any]", part), MergedList)
            elif name != "index":
                self._set(choice, name, part)
        return generated

    def _add_output(self, choice: dict[str, Any], part: Any) -> bool:
        raise NotImplementedError

    def _finished(self, index: int, choice: dict[str, Any]) -> dict[str, Any]:
        finished = {name: _value(part) for name, part in choice.items()}
        return _ordered({**finished, "index": index}, self.choice_order)

    def _grow(
        self,
        choice: dict[str, Any],
        name: str,
        part: Any,
        kind: type[MergedObject] | type[MergedList],
    ) -> None:
        grown = self._known(choice, name)
        if part is None:
            return
        if grown is None:
            grown = choice[name] = kind(self._allowance)
        if not isinstance(grown, kind):
            raise MalformedDeltaError(f"{name} is of another kind than before")
        grown.add(part)

    def _set(self, fields: dict[str, Any], name: str, value: Any) -> None:
        """The latest value counts, but for what names the answer, which is its first chunk's."""
        before = self._known(fields, name)
        if value is None or (before and (name in _NAMING or before == value)):
            return
        self._allowance.spend(len(encode_json(value)) - len(encode_json(_value(before))))
        fields[name] = value

    def _known(self, fields: dict[str, Any], name: str) -> Any:
        """What a field has been until now; it is there from now on."""
        if name not in fields:
            self._allowance.spend(len(name) + ENTRY_BYTES)
            fields[name] = None
        return fields[name]


_NAMING = frozenset({"id", "object", "created", "model"})


class ChatAssembler(_ChoicesAssembler):
    """`/v1/chat/completions`: text, reasoning, refusals, tool calls, log probabilities."""

    frame = ("id", "object", "created", "model", "choices", "usage")
    choice_order = ("index", "message", "logprobs", "finish_reason")

    def _add_output(self, choice: dict[str, Any], part: Any) -> bool:
        if part is None:
            return False
        self._grow(choice, "message", part, MergedObject)
        return any(value for name, value in part.items() if name != "role")

    def _finished(self, index: int, choice: dict[str, Any]) -> dict[str, Any]:
        finished = super()._finished(index, choice)
        message = {"role": "assistant", "content": None, **finished.get("message", {})}
        finished["message"] = _ordered(message, ("role", "content", "refusal"))
        return _ordered(finished, self.choice_order)

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        return _typed(value, ChatChunk)

    def chunk_of_body(self, body: dict[str, Any]) -> Chunk:
        choices: list[Any] = []
        for choice in _objects(body.get("choices")):
            delta = dict(_object(choice.get("message")))
            calls = _objects(delta.get("tool_calls"))
            delta["tool_calls"] = [{"index": i, **call} for i, call in enumerate(calls)] or None
            choices.append({**choice, "delta": delta})
        return _typed({**body, "object": "chat.completion.chunk", "choices": choices}, ChatChunk)


class CompletionAssembler(_ChoicesAssembler):
    """`/v1/completions`: text and log probabilities."""

    frame = ("id", "object", "created", "model", "choices", "system_fingerprint", "usage")
    choice_order = ("text", "index", "logprobs", "finish_reason")

    def _add_output(self, choice: dict[str, Any], part: Any) -> bool:
        if part is None:
            return False
        # As the only field of an object, so that it grows as the text of a message does.
        self._grow(choice, "text", {"text": part}, MergedObject)
        return bool(part)

    def _finished(self, index: int, choice: dict[str, Any]) -> dict[str, Any]:
        finished = super()._finished(index, choice)
        finished["text"] = finished.get("text", {}).get("text", "")
        return _ordered(finished, self.choice_order)

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        return _typed(value, CompletionChunk)

    def chunk_of_body(self, body: dict[str, Any]) -> Chunk:
        return _typed(body, CompletionChunk)


class ResponsesAssembler:
    """`/v1/responses`: the last event carries the whole answer."""

    def __init__(self, limit: int) -> None:
        self._allowance = Allowance(limit)
        self._body: bytes | None = None

    @property
    def complete(self) -> bool:
        return self._body is not None

    def end(self) -> None:
        """This API says it with its last event."""

    def add(self, value: Mapping[str, Any]) -> bool:
        event = self.chunk(value)
        if event.type in ("response.completed", "response.incomplete"):
            response = event.data.get("response")
            if not isinstance(response, dict):
                raise MalformedDeltaError(f"{event.type} comes without its response")
            self._body = encode_json(response)
            self._allowance.spend(len(self._body))
        return event.type.endswith(".delta")

    def body(self) -> bytes:
        if self._body is None:
            raise IncompleteAnswerError("there was no response.completed")
        return self._body

    def chunk(self, value: Mapping[str, Any]) -> ResponseEvent:
        if not isinstance(value, dict) or not isinstance(value.get("type"), str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise MalformedDeltaError("it is not an object with a type")
        return ResponseEvent(value["type"], value)

    def chunk_of_body(self, body: dict[str, Any]) -> Chunk:
        return self.chunk({"type": "response.completed", "response": body})


_KINDS: dict[str, type[ChatAssembler | CompletionAssembler | ResponsesAssembler]] = {
    "/chat/completions": ChatAssembler,
    "/completions": CompletionAssembler,
    "/responses": ResponsesAssembler,
}


def _typed(
    value: Mapping[str, Any], kind: type[ChatChunk] | type[CompletionChunk]
) -> ChatChunk | CompletionChunk:
    fields = {name: part for name, part in value.items() if part is not None}
    fields["choices"] = [
        {name: part for name, part in choice.items() if part is not None}
        for choice in _objects(value.get("choices"))
    ]
    try:
        return msgspec.convert(fields, kind)
    except (msgspec.ValidationError, UnicodeEncodeError) as error:
        # The latter for half of a surrogate pair in a name.
        raise MalformedDeltaError(str(error)) from error


def _objects(value: Any) -> list[dict[str, Any]]:
    entries = cast("list[Any]", value) if isinstance(value, list) else []
    return [_object(entry) for entry in entries]


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _value(part: Any) -> Any:
    return part.value() if isinstance(part, MergedObject | MergedList) else part


def _ordered(fields: dict[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    """The names that `order` knows first, in its order; what a server added after them."""
    known = {name: fields[name] for name in order if name in fields}
    return {**known, **{name: value for name, value in fields.items() if name not in known}}
