"""Answers of `/v1/chat/completions` and `/v1/completions` out of the choices of their chunks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from batch_gateway.client.streaming.merging import (
    ENTRY_BYTES,
    Allowance,
    GrowingText,
    IncompleteAnswerError,
    MalformedDeltaError,
    MergedList,
    MergedObject,
    Texts,
    index_of,
)
from batch_gateway.client.streaming.message_fields import (
    start_logprobs_field,
    start_message_field,
)
from batch_gateway.wire.chunks import (
    Chunk,
    chat_chunk,
    chat_chunk_of_body,
    completion_chunk,
    decode_json,
    encode_json,
)

__all__ = ["ChatAssembler", "ChoicesAssembler", "CompletionAssembler"]

_Fields = dict[str, Any]

# The first chunk that says them is right; some servers begin with empty ones.
_NAMING = frozenset({"id", "object", "created", "model"})
# Where the output is, wherever the endpoint has it; the index says which choice.
_PLACES = frozenset({"index", "delta", "text", "message"})
# What some servers write for a choice that goes on.
_NO_REASON = frozenset({"", "null", "none"})


class ChoicesAssembler:
    """What chat and completions share.

    Attributes:
        said_done: the server said `[DONE]`.
    """

    frame_order: tuple[str, ...]
    choice_order: tuple[str, ...]

    def __init__(self, limit: int) -> None:
        self._allowance = Allowance(limit)
        self._frame: _Fields = {}
        self._choices: dict[int, _Fields] = {}
        self._going_on = 0
        self.said_done = False

    @property
    def complete(self) -> bool:
        return self.said_done

    def end(self) -> None:
        self.said_done = True

    def ended_choices(self) -> int:
        """How many choices there are, all of which have their finish_reason; else 0."""
        return 0 if self._going_on else len(self._choices)

    def decode(self, data: bytes) -> Any:
        return decode_json(data)

    def chunk_of_event(self, value: _Fields, name: str) -> _Fields | None:
        """An object without choices counts when it says that it is a chunk, or has the usage."""
        is_chunk = isinstance(value.get("usage"), dict) or isinstance(value.get("object"), str)
        return value if is_chunk or "choices" in value else None

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

    def grown_by(self, value: Mapping[str, Any]) -> tuple[GrowingText, str] | None:
        choices: Any = value.get("choices")
        if not isinstance(choices, list) or len(cast("list[Any]", choices)) != 1:
            return None
        given = _object(choices[0])
        index: Any = given.get("index", 0)
        choice = self._choices.get(index) if type(index) is int else None
        if choice is None or given.get("finish_reason"):
            return None
        texts: Texts = []
        is_all = self._regrows(choice, given, texts) and not any(
            isinstance(part, dict | list) for name, part in given.items() if name not in _PLACES
        )
        return texts[0] if is_all and len(texts) == 1 else None

    def body(self) -> bytes:
        if not self._choices:
            raise IncompleteAnswerError("no choice had arrived")
        if not self.ended_choices():
            raise IncompleteAnswerError("there was no finish_reason")
        choices = [self._finished(index, choice) for index, choice in sorted(self._choices.items())]
        kind = self._frame.get("object") or ""
        if isinstance(kind, str):
            kind = kind.removesuffix(".chunk")
        frame = {**self._frame, "object": kind, "choices": choices}
        return encode_json(_ordered(frame, self.frame_order))

    # --- one chunk ---

    def _add_choices(self, choices: Any) -> bool:
        if choices is None:
            return False
        if not isinstance(choices, list):
            raise MalformedDeltaError("its choices are not a list")
        generated = False
        for place, given in enumerate(cast("list[Any]", choices)):
            if not isinstance(given, dict):
                raise MalformedDeltaError("a choice of it is not an object")
            if self._add_choice(cast("_Fields", given), place):
                generated = True
        return generated

    def _add_choice(self, given: _Fields, place: int) -> bool:
        choice = self._choice(given, place)
        generated = self._add_output(choice, given)
        for name, part in given.items():
            if name in _PLACES or (part is None and name in choice):
                continue
            if name == "finish_reason":
                self._finish(choice, part)
            elif name == "logprobs" or isinstance(part, list):
                self._grow(choice, name, part)
            else:
                self._set(choice, name, part)
        return generated

    def _choice(self, given: _Fields, place: int) -> _Fields:
        index: Any = given.get("index")
        if type(index) is not int:
            index = place if index is None else index_of(given)
            if index is None:
                raise MalformedDeltaError("the index of a choice is not a number")
        choice = self._choices.get(index)
        if choice is None:
            self._allowance.spend(3 * ENTRY_BYTES)
            self._going_on += 1
            choice = self._choices[index] = {}
        return choice

    def _add_output(self, choice: _Fields, given: _Fields) -> bool:
        raise NotImplementedError

    def _regrows(self, choice: _Fields, given: _Fields, texts: Texts) -> bool:
        """As `Growth.regrows`, of the output of a choice."""
        raise NotImplementedError

    def _finished(self, index: int, choice: _Fields) -> _Fields:
        return {name: _value(part) for name, part in choice.items()} | {"index": index}

    def _finish(self, choice: _Fields, reason: Any) -> None:
        if isinstance(reason, str):
            reason = None if reason.strip().lower() in _NO_REASON else reason
        elif reason is not None and not isinstance(reason, dict):
            raise MalformedDeltaError("a finish_reason is not text")
        if reason and not choice.get("finish_reason"):
            self._going_on -= 1
        self._set(choice, "finish_reason", reason)

    def _grow(self, choice: _Fields, name: str, part: Any) -> None:
        grown = self._known(choice, name)
        if part is None:
            return
        if grown is None:
            kind = MergedObject if name == "logprobs" else MergedList
            grown = choice[name] = kind(self._allowance, start_logprobs_field, 0)
        if not isinstance(grown, MergedObject | MergedList):
            raise MalformedDeltaError(f"{name} is of another kind than before")
        grown.add(part)

    def _set(self, fields: _Fields, name: str, value: Any) -> None:
        """The latest value counts, but for what names the answer, which is its first chunk's."""
        before = self._known(fields, name)
        if value is None or (before and (name in _NAMING or before == value)):
            return
        if isinstance(value, dict | list):
            value = msgspec.Raw(encode_json(value))
        self._allowance.spend(_size(value) - _size(before))
        fields[name] = value

    def _known(self, fields: _Fields, name: str) -> Any:
        """What a field has been until now; it is there from now on."""
        if name not in fields:
            self._allowance.spend(len(name) + ENTRY_BYTES)
            fields[name] = None
        return fields[name]


class ChatAssembler(ChoicesAssembler):
    """`/v1/chat/completions`: text, reasoning, refusals, tool calls, log probabilities."""

    frame_order = ("id", "object", "created", "model", "choices", "usage")
    choice_order = ("index", "message", "logprobs", "finish_reason")

    # The choice that came last as a message instead of deltas.
    _as_message: _Fields | None = None

    def _add_output(self, choice: _Fields, given: _Fields) -> bool:
        delta: Any = given.get("delta")
        message = choice.get("message")
        if delta is None:
            delta = _without_delta(given, begun=message is not None)
            if delta is None:
                return False
            if delta is given.get("message"):
                self._as_message = given
        if message is None:
            message = choice["message"] = MergedObject(self._allowance, start_message_field)
        return message.add(delta)

    def _regrows(self, choice: _Fields, given: _Fields, texts: Texts) -> bool:
        delta, message = given.get("delta"), choice.get("message")
        return isinstance(message, MergedObject) and message.regrows(delta, texts)

    def _finished(self, index: int, choice: _Fields) -> _Fields:
        finished = super()._finished(index, choice)
        message: _Fields = {"role": None, "content": None} | finished.get("message", {})
        if message["role"] is None or bytes(message["role"]) == b'""':
            message["role"] = "assistant"
        finished["message"] = _ordered(message, ("role", "content", "refusal"))
        return _ordered(finished, self.choice_order)

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        message = self._as_message
        if message is not None and any(one is message for one in value.get("choices") or ()):
            return chat_chunk_of_body(value)
        return chat_chunk(value)

    def chunk_of_body(self, body: _Fields) -> Chunk:
        return chat_chunk_of_body(body)


class CompletionAssembler(ChoicesAssembler):
    """`/v1/completions`: text and log probabilities."""

    frame_order = ("id", "object", "created", "model", "choices", "system_fingerprint", "usage")
    choice_order = ("text", "index", "logprobs", "finish_reason")

    def _add_output(self, choice: _Fields, given: _Fields) -> bool:
        part: Any = given.get("text")
        if part is None:
            part = _object(given.get("delta")).get("content")
            if part is None:
                return False
        text = choice.get("text")
        if text is None:
            text = choice["text"] = GrowingText(self._allowance)
        return text.add(part)

    def _regrows(self, choice: _Fields, given: _Fields, texts: Texts) -> bool:
        part, text = given.get("text"), choice.get("text")
        if not isinstance(part, str) or not isinstance(text, GrowingText):
            return False
        return text.regrows(part, texts)

    def _finished(self, index: int, choice: _Fields) -> _Fields:
        return _ordered({"text": ""} | super()._finished(index, choice), self.choice_order)

    def chunk(self, value: Mapping[str, Any]) -> Chunk:
        return completion_chunk(value)

    def chunk_of_body(self, body: _Fields) -> Chunk:
        return completion_chunk(body)


def _without_delta(given: _Fields, *, begun: bool) -> Any:
    """What a chat choice says instead: text as completions have it, or a whole message.

    After deltas a message is the sum of them.
    """
    text = given.get("text")
    if isinstance(text, str):
        return {"content": text}
    return None if begun else given.get("message")


def _object(value: Any) -> _Fields:
    return cast("_Fields", value) if isinstance(value, dict) else {}


def _value(part: Any) -> Any:
    is_grown = isinstance(part, MergedObject | MergedList | GrowingText)
    return part.value() if is_grown else part


def _size(value: Any) -> int:
    if isinstance(value, msgspec.Raw):
        return len(bytes(value)) + ENTRY_BYTES
    return sys.getsizeof(value)


def _ordered(fields: _Fields, order: tuple[str, ...]) -> _Fields:
    """The names that `order` knows first, in its order; what a server added after them."""
    known = {name: fields[name] for name in order if name in fields}
    return {**known, **{name: value for name, value in fields.items() if name not in known}}
