"""Token counts, whichever names an endpoint gives them."""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Usage", "parse_usage"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer (or of many, summed)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


# More than these, or less than none, a gateway cannot have counted; sums would go astray.
_MOST_TOKENS = 2**53
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _WireUsage(msgspec.Struct):
    # Chat and completions say prompt/completion, responses say input/output, embeddings have
    # only prompt_tokens.
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Body(msgspec.Struct):
    usage: _WireUsage | None = None


_decode = msgspec.json.Decoder(_Body).decode
_EMPTY = _Details()


def parse_usage(body: bytes) -> Usage | None:
    """The `usage` of a response body; None when it has none or it is not what it should be."""
    try:
        usage = _decode(body).usage
    except (msgspec.DecodeError, RecursionError):
        return None
    if usage is None:
        return None
    before = usage.prompt_tokens_details or usage.input_tokens_details or _EMPTY
    after = usage.completion_tokens_details or usage.output_tokens_details or _EMPTY
    return Usage(
        input_tokens=usage.prompt_tokens or usage.input_tokens or 0,
        output_tokens=usage.completion_tokens or usage.output_tokens or 0,
        cached_tokens=before.cached_tokens or 0,
        reasoning_tokens=after.reasoning_tokens or 0,
    )
