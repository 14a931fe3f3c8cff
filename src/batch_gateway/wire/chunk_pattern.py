"""Chunks that are alike but for a text, made without decoding each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Raw
from msgspec.json import Decoder
from msgspec.structs import force_setattr

from batch_gateway.wire.chunks import ChatChoice, ChatChunk, Chunk, CompletionChunk, decode_json

__all__ = ["Make", "Typed", "chunk_maker", "read_chat_chunk", "read_completion_chunk"]

Typed = Callable[[Mapping[str, Any]], Chunk]
"""Gives the typed chunk of a value."""

Make = Callable[[str, bytes], Chunk]
"""Gives the chunk with this text whose JSON these bytes are."""


def chunk_maker(typed: Typed, value: Mapping[str, Any], text: str) -> Make:
    """What makes typed chunks as that of `value`, with another text where `text` stands in it.

    `typed` is asked for each of them where the text is in a rare place.
    """
    like = typed(value)
    if isinstance(like, ChatChunk | CompletionChunk) and len(like.choices) == 1 and not like.usage:
        choice = like.choices[0]
        output = choice.delta if isinstance(choice, ChatChoice) else choice
        for name in output.__struct_fields__:
            if getattr(output, name) == text:
                is_chat = isinstance(like, ChatChunk)
                return _chat_maker(like, name) if is_chat else _completion_maker(like, name)
    return lambda _, data: typed(decode_json(data))


def read_chat_chunk(data: bytes) -> ChatChunk:
    """The chunk whose JSON these bytes are, when all of its fields are of their types.

    Raises msgspec.DecodeError where one is not. What is mended in `chat_chunk` is not mended here.
    """
    chunk = _decode_chat(data)
    force_setattr(chunk, "_raw", Raw(data))
    return chunk


def read_completion_chunk(data: bytes) -> CompletionChunk:
    """The same of `/v1/completions`."""
    chunk = _decode_completion(data)
    force_setattr(chunk, "_raw", Raw(data))
    return chunk


_decode_chat = Decoder(ChatChunk).decode
_decode_completion = Decoder(CompletionChunk).decode


# What is the same in all chunks is looked up once; the JSON is decoded when somebody asks for it.


def _chat_maker(like: ChatChunk, name: str) -> Make:
    [choice] = like.choices
    copy_delta, index = _copier(choice.delta), choice.index
    reason, logprobs = choice.finish_reason, choice.logprobs
    id_, kind, created, model = like.id, like.object, like.created, like.model
    tier, fingerprint = like.service_tier, like.system_fingerprint

    def make(text: str, data: bytes) -> ChatChunk:
        delta = copy_delta()
        force_setattr(delta, name, text)
        choices = [ChatChoice(index, delta, reason, logprobs)]
        return ChatChunk(id_, kind, created, model, choices, None, tier, fingerprint, Raw(data))

    return make


def _completion_maker(like: CompletionChunk, name: str) -> Make:
    copy_choice, fingerprint = _copier(like.choices[0]), like.system_fingerprint
    id_, kind, created, model = like.id, like.object, like.created, like.model

    def make(text: str, data: bytes) -> CompletionChunk:
        choice = copy_choice()
        force_setattr(choice, name, text)
        return CompletionChunk(id_, kind, created, model, [choice], None, fingerprint, Raw(data))

    return make


def _copier(struct: Any) -> Callable[[], Any]:
    return struct.__copy__
