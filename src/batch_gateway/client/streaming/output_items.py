"""The output of `/v1/responses` out of the events about its items, for servers whose last event
leaves it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from batch_gateway.client.streaming.merging import ENTRY_BYTES, Allowance, GrowingText
from batch_gateway.wire.chunks import decode_json, encode_json

__all__ = ["OutputItems"]


class _Place(msgspec.Struct, frozen=True, gc=False):
    """Where in an item the text of a delta stands: in the entry number `number` of a list.

    The arguments of a call stand in no list.
    """

    items: str
    entry_type: str
    field: str
    number: str = "content_index"


_PLACES = {
    "response.output_text.delta": _Place("content", "output_text", "text"),
    "response.refusal.delta": _Place("content", "refusal", "refusal"),
    "response.reasoning_text.delta": _Place("content", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": _Place(
        "summary", "summary_text", "text", "summary_index"
    ),
    "response.function_call_arguments.delta": _Place("", "function_call", "arguments"),
}
_Texts = dict[tuple[str, int], GrowingText]
"""By the type of their deltas and the number of their entry."""


class OutputItems:
    """Items as they were announced or done, and the deltas of those that are not done."""

    __slots__ = ("_allowance", "_announced", "_done", "_last", "_last_text", "_texts")

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._announced: dict[int, bytes] = {}
        self._done: dict[int, bytes] = {}
        self._texts: dict[int, _Texts] = {}
        self._last: tuple[str, Any, Any] | None = None
        self._last_text: GrowingText | None = None

    def __bool__(self) -> bool:
        return bool(self._done or self._texts or self._announced)

    def add(self, index: Any, item: Any, *, is_done: bool) -> None:
        """An item at its place in the output, as it begins or as it is at its end."""
        number = index if type(index) is int else len(self._done)
        encoded = encode_json(item)
        self._allowance.spend(len(encoded) + ENTRY_BYTES)
        if is_done:
            self._done[number] = encoded
            self._announced.pop(number, None)
            self._texts.pop(number, None)
            self._last = None
        else:
            self._announced[number] = encoded

    def add_delta(self, kind: str, event: Mapping[str, Any]) -> None:
        """What a delta adds to the text of an item that is not done."""
        place = _PLACES.get(kind)
        if place is None:
            return
        key = (kind, event.get("output_index"), event.get(place.number))
        if key != self._last:
            self._last, self._last_text = key, self._text_at(*key)
        delta: Any = event.get("delta")
        if isinstance(delta, msgspec.Raw):
            delta = decode_json(bytes(delta))
        if self._last_text is not None and isinstance(delta, str):
            self._last_text.add(delta)

    def _text_at(self, kind: str, index: Any, number: Any) -> GrowingText | None:
        index = index if type(index) is int else len(self._done)
        if index in self._done:
            return None
        texts = self._texts.setdefault(index, {})
        key = (kind, number if type(number) is int else 0)
        if key not in texts:
            self._allowance.spend(3 * ENTRY_BYTES)
            texts[key] = GrowingText(self._allowance)
        return texts[key]

    def value(self) -> list[Any]:
        """All items in their order."""
        indexes = sorted({*self._done, *self._announced, *self._texts})
        return [
            msgspec.Raw(self._done[index]) if index in self._done else self._made_of_deltas(index)
            for index in indexes
        ]

    def _made_of_deltas(self, index: int) -> dict[str, Any]:
        texts = self._texts.get(index, {})
        announced: Any = decode_json(self._announced.get(index, b"null"))
        item = cast("dict[str, Any]", announced) if isinstance(announced, dict) else {}
        item = {**_beginning(texts), **item, "status": "completed"}
        lists: dict[str, list[Any]] = {}
        for (kind, _), text in sorted(texts.items(), key=lambda entry: entry[0][1]):
            place = _PLACES[kind]
            if place.items:
                entry = {"type": place.entry_type, place.field: text.value()}
                lists.setdefault(place.items, []).append(entry)
            else:
                item[place.field] = text.value()
        return {**item, **lists}


def _beginning(texts: _Texts) -> dict[str, Any]:
    """What an item is at least, by the deltas that it has."""
    kinds = {kind for kind, _ in texts}
    if any("reasoning" in kind for kind in kinds):
        return {"type": "reasoning"}
    if any("arguments" in kind for kind in kinds):
        return {"type": "function_call"}
    return {"type": "message", "role": "assistant"}
