"""How each field of a message grows: a table of those that come in pieces.

A field that is not in it is said whole, often in every delta again, and its latest value counts.
"""

from __future__ import annotations

from typing import Any, cast

from batch_gateway.client.streaming.merging import (
    Allowance,
    FirstValue,
    GrowingName,
    GrowingText,
    Growth,
    LastValue,
    MalformedDeltaError,
    MergedList,
    MergedObject,
    Texts,
    kind_of,
)
from batch_gateway.client.streaming.tool_calls import ToolCalls
from batch_gateway.wire.chunks import decode_json

__all__ = ["start_logprobs_field", "start_message_field"]

# Text that is generated, under the names that servers have for it.
_GROWING = frozenset({
    "content", "text", "refusal", "arguments", "input", "partial_json",
    "reasoning", "reasoning_content", "reasoning_text", "thinking", "thinking_content", "thought",
    "thoughts", "summary", "data", "transcript",
})  # fmt: skip
_SAID_ONCE = frozenset({"role", "id", "type", "index"})
# Parts of these types go on in the next delta. Others, such as images, are whole.
_PARTS_IN_PIECES = frozenset({"text", "thinking", "reasoning", "output_text", "refusal"})


def start_message_field(name: str, value: Any, allowance: Allowance, depth: int) -> Growth:
    """The beginning of a field in a delta, or in an object of one."""
    if name in _GROWING and not isinstance(value, dict):
        return _Content(allowance, depth)
    if name == "tool_calls":
        return ToolCalls(allowance, start_message_field, depth)
    if name == "name" or name in _SAID_ONCE:
        return (GrowingName if name == "name" else FirstValue)(allowance)
    if isinstance(value, list | dict):
        kind = MergedList if isinstance(value, list) else MergedObject
        return kind(allowance, start_message_field, depth)
    return LastValue(allowance)


def start_logprobs_field(_name: str, value: Any, allowance: Allowance, depth: int) -> Growth:
    """The beginning of a field of log probabilities: a list with an entry for each token."""
    if isinstance(value, list):
        return MergedList(allowance, start_logprobs_field, depth)
    return LastValue(allowance)


class _Content:
    """Text, or from the first list on the parts of a message, where text becomes a part too.

    Reasoning models of Mistral send their thoughts as parts, and then plain text.
    """

    __slots__ = ("_allowance", "_depth", "_parts", "_text")

    def __init__(self, allowance: Allowance, depth: int) -> None:
        self._allowance = allowance
        self._depth = depth
        self._text = GrowingText(allowance)
        self._parts: _Parts | None = None

    def add(self, value: Any) -> bool:
        if self._parts is None:
            if not isinstance(value, list):
                return self._text.add(value)
            self._parts = _Parts(self._allowance, self._depth)
            self._parts.add_text(decode_json(bytes(self._text.value())))
        if isinstance(value, str):
            return self._parts.add_text(value)
        return self._parts.add(value)

    def regrows(self, value: Any, texts: Texts) -> bool:
        return self._parts is None and self._text.regrows(value, texts)

    def value(self) -> Any:
        return self._text.value() if self._parts is None else self._parts.value()


class _Parts:
    __slots__ = ("_allowance", "_depth", "_kind", "_parts")

    def __init__(self, allowance: Allowance, depth: int) -> None:
        self._allowance = allowance
        self._depth = depth
        self._parts: list[Growth] = []
        self._kind: object = None

    def add(self, value: Any) -> bool:
        if not isinstance(value, list):
            raise MalformedDeltaError(f"parts go on with {kind_of(value)}")
        grew = False
        for part in cast("list[Any]", value):
            if isinstance(part, str):
                grew = self.add_text(part) or grew
            elif part is not None:
                grew = self._add(part) or grew
        return grew

    def add_text(self, text: str) -> bool:
        return bool(text) and self._add({"type": "text", "text": text})

    def value(self) -> Any:
        return [part.value() for part in self._parts]

    def _add(self, part: Any) -> bool:
        kind = cast("dict[str, Any]", part).get("type") if isinstance(part, dict) else None
        in_pieces = isinstance(kind, str) and kind in _PARTS_IN_PIECES
        if not in_pieces:
            self._begin(LastValue(self._allowance))
        elif kind != self._kind:
            self._begin(MergedObject(self._allowance, start_message_field, self._depth + 1))
        self._kind = kind
        return self._parts[-1].add(part) or not in_pieces

    def _begin(self, part: Growth) -> None:
        self._parts.append(part)
