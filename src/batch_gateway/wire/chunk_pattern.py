"""Chunks that are alike but for a text, made without decoding each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import force_setattr

from batch_gateway.wire.chunks import ChatChoice, ChatChunk, Chunk, CompletionChunk, decode_json

__all__ = ["ChunkPattern"]

Typed = Callable[[Mapping[str, Any]], Chunk]
_Copy = Callable[[], Any]
# What copies a chunk, its only choice, and the delta of that if it has one; the text's field.
_Place = tuple[_Copy, _Copy, _Copy | None, str]


class ChunkPattern:
    """Makes typed chunks as that of `value`, with another text where `text` stands in it.

    `typed` gives the typed chunk of a value, and is asked where the text is in a rare place.
    """

    __slots__ = ("_place", "_text", "_typed", "_value")

    def __init__(self, typed: Typed, value: Mapping[str, Any], text: str) -> None:
        self._typed = typed
        self._text = text
        # Until the first is asked for.
        self._value: Mapping[str, Any] | None = value
        self._place: _Place | None = None

    def chunk(self, text: str, data: bytes) -> Chunk:
        """The chunk whose JSON is `data` and whose text is `text`."""
        if self._value is not None:
            self._place, self._value = _place_of(self._typed(self._value), self._text), None
        if self._place is None:
            return self._typed(decode_json(data))
        copy_chunk, copy_choice, copy_delta, name = self._place
        chunk, choice = copy_chunk(), copy_choice()
        if copy_delta is None:
            force_setattr(choice, name, text)
        else:
            delta = copy_delta()
            force_setattr(delta, name, text)
            force_setattr(choice, "delta", delta)
        force_setattr(chunk, "choices", [choice])
        # Decoded when somebody asks for it.
        force_setattr(chunk, "_raw", msgspec.Raw(data))
        return chunk


def _place_of(like: Chunk, text: str) -> _Place | None:
    if isinstance(like, ChatChunk | CompletionChunk) and len(like.choices) == 1 and not like.usage:
        choice = like.choices[0]
        delta = choice.delta if isinstance(choice, ChatChoice) else None
        output = choice if delta is None else delta
        for name in output.__struct_fields__:
            if getattr(output, name) == text:
                copy_delta = None if delta is None else _copier(delta)
                return _copier(like), _copier(choice), copy_delta, name
    return None


def _copier(struct: Any) -> _Copy:
    return struct.__copy__
