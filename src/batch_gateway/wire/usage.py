"""Token counts, whichever names an endpoint gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import nan
from typing import Annotated, Any, TypeAlias, cast

import msgspec

from batch_gateway.wire.json_check import NotJSONError, read_json

__all__ = ["Usage", "WireUsage", "parse_usage", "summed_up", "usage_of"]


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one answer (or of many, summed)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Tokens of the input and those generated."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )

    def __sub__(self, earlier: Usage) -> Usage:
        """What was added to `earlier`."""
        return Usage(
            self.input_tokens - earlier.input_tokens,
            self.output_tokens - earlier.output_tokens,
            self.cached_tokens - earlier.cached_tokens,
            self.reasoning_tokens - earlier.reasoning_tokens,
        )


# More than these, or less than none, a gateway cannot have counted for one answer. Sums of all
# the answers there can be fit into 64 bits, which is what may be stored.
_MOST_TOKENS = 2**32
_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST_TOKENS)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class WireUsage(msgspec.Struct):
    """The `usage` of a body as it stands there."""

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
    usage: WireUsage | None = None


_decode = msgspec.json.Decoder(_Body).decode
_EMPTY = _Details()
_COUNTS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
_DETAILS = tuple(f"{name}_details" for name in _COUNTS)
_Fields: TypeAlias = Mapping[str, Any]


def parse_usage(body: bytes) -> Usage | None:
    """The token counts of a response body; None when it has none or they are impossible.

    Usually they are the body's `usage`. Groq has them in `x_groq`, Moonshot in a choice. Counts
    may be written as `1.0` or as text, and what is no count is passed over.
    """
    try:
        usage = _decode(body).usage
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _from_odd_body(body)
    return usage_of(usage, body)


def usage_of(usage: WireUsage | None, body: bytes) -> Usage | None:
    """The same for a body that is decoded already, with what stands at its usual place."""
    if usage is None:
        return _from_odd_body(body) if b'"usage"' in body else None
    return summed_up(usage)


def summed_up(usage: WireUsage) -> Usage:
    """The token counts that stand in it, by whichever names."""
    before = usage.prompt_tokens_details or usage.input_tokens_details or _EMPTY
    after = usage.completion_tokens_details or usage.output_tokens_details or _EMPTY
    return Usage(
        usage.prompt_tokens or usage.input_tokens or 0,
        usage.completion_tokens or usage.output_tokens or 0,
        before.cached_tokens or 0,
        after.reasoning_tokens or 0,
    )


def _from_odd_body(body: bytes) -> Usage | None:
    try:
        value = read_json(body)
    except NotJSONError:
        return None
    usage = next(_places(value), None)
    if usage is None:
        return None
    counts = {name: _count(usage.get(name)) for name in _COUNTS}
    if any(count is not None and not 0 <= count <= _MOST_TOKENS for count in counts.values()):
        return None
    fields: dict[str, Any] = {**counts}
    fields |= {name: _details(usage.get(name)) for name in _DETAILS}
    return summed_up(WireUsage(**fields))


def _places(body: object) -> Iterator[_Fields]:
    """Every object with token counts, the one for the whole answer first."""
    fields = _object(body)
    choices = fields.get("choices")
    among = cast("list[object]", choices) if isinstance(choices, list) else []
    for holder in (fields, _object(fields.get("x_groq")), *map(_object, among)):
        if isinstance(holder.get("usage"), dict):
            yield holder["usage"]


def _object(value: object) -> _Fields:
    return cast("_Fields", value) if isinstance(value, dict) else {}


def _details(value: object) -> _Details:
    counts = ((name, _count(_object(value).get(name))) for name in _Details.__struct_fields__)
    return _Details(**{n: c for n, c in counts if c is not None and 0 <= c <= _MOST_TOKENS})


def _count(value: object) -> int | None:
    """A whole number, however it is written; None for what is none."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else nan
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None
