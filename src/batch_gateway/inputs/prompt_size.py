"""How many tokens a request has, about, and how many its answer may have."""

from __future__ import annotations

from typing import Any, Final, Self, cast

import msgspec

__all__ = ["RequestSize", "size_of_request"]

# English is some four bytes a token in the vocabularies of today, other scripts mostly less.
_BYTES_A_TOKEN: Final = 4
# A chat template puts a role and some marks around each message.
_TOKENS_A_MESSAGE: Final = 4
_PROMPTS: Final = ("messages", "prompt", "input", "instructions")
_LIMITS: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RequestSize(msgspec.Struct):
    """What requests come to. `unbounded` of them do not say how long their answers may be."""

    prompt_tokens: float = 0.0
    answer_tokens: int = 0
    unbounded: int = 0

    def __iadd__(self, other: Self) -> Self:
        self.prompt_tokens += other.prompt_tokens
        self.answer_tokens += other.answer_tokens
        self.unbounded += other.unbounded
        return self


def size_of_request(body: bytes | msgspec.Raw) -> RequestSize:
    """An estimate by the length of its texts; tokens that are given as numbers are counted."""
    fields = _decode(body)
    tokens = sum(_tokens(fields.get(name)) for name in _PROMPTS)
    limit = next((fields[name] for name in _LIMITS if isinstance(fields.get(name), int)), None)
    has_no_answer = "messages" not in fields and "prompt" not in fields and limit is None
    choices = fields.get("n")
    times = choices if isinstance(choices, int) else 1
    if limit is None:
        return RequestSize(tokens, 0, 0 if has_no_answer else 1)
    return RequestSize(tokens, limit * times)


def _tokens(value: object) -> float:
    if isinstance(value, str):
        return len(value.encode(errors="replace")) / _BYTES_A_TOKEN
    if isinstance(value, int):
        return 1
    if isinstance(value, list):
        return sum(map(_tokens, cast("list[object]", value)))
    if isinstance(value, dict):
        texts = cast("dict[str, object]", value)
        own = _TOKENS_A_MESSAGE if "role" in texts else 0
        return own + sum(_tokens(texts[name]) for name in ("content", "text") if name in texts)
    return 0
