"""Which tool call a delta belongs to: servers count and name them in many ways."""

from __future__ import annotations

from typing import Any, cast

import msgspec

from batch_gateway.client.streaming.merging import (
    ENTRY_BYTES,
    Allowance,
    MalformedDeltaError,
    MergedObject,
    Start,
    Texts,
    index_of,
    kind_of,
)
from batch_gateway.wire.chunks import decode_json, encode_json

__all__ = ["ToolCalls"]


class _Piece(msgspec.Struct, frozen=True):
    """What says which call a delta belongs to. `whole`: it is a call from begin to end."""

    index: int | None
    id: str
    name: str
    whole: bool


class _Call:
    __slots__ = ("fields", "id", "name", "place", "whole")

    def __init__(self, fields: MergedObject, place: int) -> None:
        self.fields = fields
        self.place = place
        self.id = ""
        self.name = ""
        self.whole = False

    def add(self, entry: dict[str, Any], piece: _Piece) -> None:
        self.id = self.id or piece.id
        self.name = self.name or piece.name
        self.whole = self.whole or piece.whole
        self.fields.add(entry)


class ToolCalls:
    """The tool calls of a message, in the order of their indexes.

    An index alone says where a delta goes, but for a new id that comes with a name: some servers
    give all their parallel calls the number 0. Without an index a new id or another name begins
    a call, and what has neither continues the last one. Whole calls are never run together.
    """

    __slots__ = ("_allowance", "_at", "_by_id", "_calls", "_depth", "_last", "_next", "_start")

    def __init__(self, allowance: Allowance, start: Start, depth: int) -> None:
        self._allowance = allowance
        self._start = start
        self._depth = depth
        self._calls: list[_Call] = []
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._last: _Call | None = None
        self._next = 0

    def add(self, value: Any) -> bool:
        if isinstance(value, dict) and "function" in value:  # TGI up to 2.3
            value = [value]
        if not isinstance(value, list):
            raise MalformedDeltaError(f"tool calls are {kind_of(value)}")
        for entry in cast("list[Any]", value):
            if isinstance(entry, dict):
                self._add(cast("dict[str, Any]", entry))
            elif entry is not None:
                raise MalformedDeltaError("a tool call of it is not an object")
        return bool(cast("list[Any]", value))

    def regrows(self, value: Any, texts: Texts) -> bool:
        if not isinstance(value, list) or len(cast("list[Any]", value)) != 1:
            return not value
        call, last = self._continued(cast("list[Any]", value)[0]), self._last
        return call is not None and call is last and call.fields.regrows(value[0], texts)

    def value(self) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = [
            call.fields.value() for call in sorted(self._calls, key=lambda one: one.place)
        ]
        for call in calls:
            call.pop("index", None)
        return calls

    def _add(self, entry: dict[str, Any]) -> None:
        known = self._continued(entry)
        if known is not None:
            self._last = known
            known.fields.add(entry)
            return
        piece = _piece_of(entry)
        call = self._found(piece)
        if call is None:
            call = self._begun(piece)
        if piece.id and piece.id not in self._by_id:
            self._allowance.spend(len(piece.id) + ENTRY_BYTES)
            self._by_id[piece.id] = call
        self._last = call
        call.add(entry, piece)

    def _continued(self, entry: dict[str, Any]) -> _Call | None:
        """Nearly all deltas are a piece of the arguments of a call that has an index."""
        index: Any = entry.get("index")
        function: Any = entry.get("function")
        if type(index) is not int or entry.get("id") or not isinstance(function, dict):
            return None
        named = cast("dict[str, Any]", function).get("name")
        return None if named else self._at.get(index)

    def _found(self, piece: _Piece) -> _Call | None:
        """The call that a piece continues; None when it begins one."""
        if piece.index is not None:
            call = self._at.get(piece.index)
            if call is None or _begins_another(piece, call):
                return None
            return call
        call = self._by_id.get(piece.id, self._last)
        if call is None or (piece.whole and call.whole):
            return None
        if piece.id and call.id:
            return call if piece.id == call.id else None
        return None if call.name and piece.name not in ("", call.name) else call

    def _begun(self, piece: _Piece) -> _Call:
        self._allowance.spend(2 * ENTRY_BYTES)
        place = self._next if piece.index is None else piece.index
        self._next = max(self._next, place + 1)
        call = _Call(MergedObject(self._allowance, self._start, self._depth + 1), place)
        self._calls.append(call)
        self._at[place] = call
        return call


def _begins_another(piece: _Piece, call: _Call) -> bool:
    """Whether a piece whose index is taken is another call all the same."""
    if piece.id and call.id:
        return piece.id != call.id and bool(piece.name)
    return piece.whole and call.whole and not piece.id


def _piece_of(entry: dict[str, Any]) -> _Piece:
    function: Any = entry.get("function")
    fields = cast("dict[str, Any]", function) if isinstance(function, dict) else entry
    name: Any = fields.get("name")
    named = name if isinstance(name, str) else ""
    given: Any = entry.get("id")
    whole = bool(named) and _is_whole(fields.get("arguments"))
    return _Piece(index_of(entry), _identity(given), named, whole)


def _identity(given: Any) -> str:
    if isinstance(given, str):
        return given
    return "" if given is None else encode_json(given).decode()


def _is_whole(arguments: Any) -> bool:
    if isinstance(arguments, dict):
        return True
    if not isinstance(arguments, str) or arguments[:1] != "{" or arguments[-1:] != "}":
        return False
    try:
        decode_json(arguments.encode())
    except ValueError:
        return False
    return True
