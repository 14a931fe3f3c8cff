"""Answers of `/v1/responses`: the response of the last event, or what the events before it said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from batch_gateway.client.streaming.merging import (
    Allowance,
    GrowingText,
    IncompleteAnswerError,
    MalformedDeltaError,
)
from batch_gateway.client.streaming.output_items import OutputItems
from batch_gateway.wire.chunks import ResponseEvent, decode_json, encode_json

__all__ = ["ResponsesAssembler"]

# "done" is what the realtime API and servers after it call the last event.
_LAST = frozenset(
    {"response.completed", "response.incomplete", "response.done", "response.cancelled"}
)
_STATUS = {"response.incomplete": "incomplete", "response.cancelled": "cancelled"}
# Below this an event is decoded as a whole; the last one may be as large as the answer, and would
# take many times as much as objects.
_SMALL_BYTES = 64 * 1024
_NOTHING = frozenset({b"", b"[]", b"null"})

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class _Outline(msgspec.Struct):
    output: msgspec.Raw = msgspec.Raw(b"")
    status: msgspec.Raw = msgspec.Raw(b"")


_decode_outline = msgspec.json.Decoder(_Outline).decode


class _LargeEvent(dict[str, Any]):
    """An event of which large parts are still encoded."""


class ResponsesAssembler:
    """`/v1/responses`: the last event carries the whole answer.

    Some servers leave its `output` empty; then it is made of the items that came before.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items = OutputItems(Allowance(limit))
        self._body: bytes | None = None

    @property
    def complete(self) -> bool:
        return self._body is not None

    def end(self) -> None:
        """This API says it with its last event."""

    def ended_choices(self) -> int:
        return 0 if self._body is None else 1

    def decode(self, data: bytes) -> Any:
        if len(data) < _SMALL_BYTES:
            return decode_json(data)
        try:
            fields = _decode_fields(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return decode_json(data)
        return _LargeEvent((name, _unpacked(part)) for name, part in fields.items())

    def chunk_of_event(self, value: dict[str, Any], name: str) -> dict[str, Any] | None:
        """Some servers say the type in the event's name alone."""
        return {**value, "type": name} if name and value.get("type") is None else value

    def add(self, value: Mapping[str, Any]) -> bool:
        kind = _type_of(value)
        if kind.endswith(".delta"):
            self._items.add_delta(kind, value)
            return True
        if kind in _LAST:
            self._complete(kind, value.get("response"))
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._items.add(
                value.get("output_index"), value.get("item"), is_done=kind.endswith("done")
            )
        return False

    def grown_by(self, value: Mapping[str, Any]) -> tuple[GrowingText, str] | None:
        """Its events are numbered: none is as the one before."""
        return None

    def body(self) -> bytes:
        if self._body is None:
            raise IncompleteAnswerError("there was no response.completed")
        return self._body

    def chunk(self, value: Mapping[str, Any]) -> ResponseEvent:
        kind = _type_of(value)
        if isinstance(value, _LargeEvent):
            value = {name: _plain(part) for name, part in value.items()}
        return ResponseEvent(kind, value)

    def chunk_of_body(self, body: dict[str, Any]) -> ResponseEvent:
        return self.chunk({"type": "response.completed", "response": body})

    def _complete(self, kind: str, response: Any) -> None:
        if not isinstance(response, dict | msgspec.Raw):
            raise MalformedDeltaError(f"{kind} comes without its response")
        body = bytes(response) if isinstance(response, msgspec.Raw) else encode_json(response)
        Allowance(self._limit).spend(len(body))
        self._body = self._completed(body, kind)

    def _completed(self, body: bytes, kind: str) -> bytes:
        """With the output and the status that some servers leave out, because events said them."""
        try:
            outline = _decode_outline(body)
            output, status = bytes(outline.output), bytes(outline.status)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Halves of surrogate pairs, or no object at all.
            fields: Any = decode_json(body)
            if not isinstance(fields, dict):
                raise MalformedDeltaError(f"{kind} comes without its response") from None
            output, status = (
                encode_json(cast("dict[str, Any]", fields).get(name))
                for name in ("output", "status")
            )
        missing: dict[str, Any] = {}
        if status in _NOTHING:
            missing["status"] = _STATUS.get(kind, "completed")
        if output in _NOTHING and self._items:
            missing["output"] = self._items.value()
        return encode_json({**decode_json(body), **missing}) if missing else body


def _type_of(value: Mapping[str, Any]) -> str:
    kind: Any = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str):
        raise MalformedDeltaError("it is not an object with a type")
    return kind


def _unpacked(part: msgspec.Raw) -> Any:
    data = bytes(part)
    return decode_json(data) if len(data) < _SMALL_BYTES else part


def _plain(part: Any) -> Any:
    return decode_json(bytes(part)) if isinstance(part, msgspec.Raw) else part
