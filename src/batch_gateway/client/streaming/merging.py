"""Values that grow by deltas: text is appended, lists are extended, objects are merged.

What is kept is text and encoded JSON, so that its size can be counted as it grows, and a server
cannot make this process use much more memory than the limit says.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from batch_gateway.wire.chunks import encode_json

__all__ = [
    "ENTRY_BYTES",
    "Allowance",
    "AnswerTooLargeError",
    "MalformedDeltaError",
    "MergedList",
    "MergedObject",
]

# What an entry costs besides its own bytes, roughly.
ENTRY_BYTES = 64

# Said once, though some servers repeat them in every chunk.
_SAID_ONCE = frozenset({"role", "id", "type", "index"})


class MalformedDeltaError(Exception):
    """A delta does not fit what came before it."""


class AnswerTooLargeError(Exception):
    """The answer has outgrown its limit."""


class Allowance:
    """How many more bytes an answer may take."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise AnswerTooLargeError


class _Text:
    """Text in UTF-8: a list of its pieces, or `io.StringIO`, would take many times as much."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._text = bytearray()

    def add(self, value: Any) -> None:
        if not isinstance(value, str):
            raise MalformedDeltaError(f"text goes on with {_kind(value)}")
        encoded = value.encode("utf-8", "surrogatepass")
        self._allowance.spend(len(encoded))
        self._text += encoded

    def value(self) -> Any:
        return self._text.decode("utf-8", "surrogatepass")


class _Name(_Text):
    """A function's name: some servers send it in pieces, others whole again and again."""

    def add(self, value: Any) -> None:
        if value != self.value():
            super().add(value)


class _First:
    """The first value that is not empty."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._value: Any = None

    def add(self, value: Any) -> None:
        if not self._value:
            self._allowance.spend(len(encode_json(value)))
            self._value = value

    def value(self) -> Any:
        return self._value


class _Last:
    """The latest value."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._value = msgspec.Raw()

    def add(self, value: Any) -> None:
        encoded = msgspec.Raw(encode_json(value))
        self._allowance.spend(len(bytes(encoded)) - len(bytes(self._value)))
        self._value = encoded

    def value(self) -> Any:
        return self._value


class MergedList:
    """A list that is extended; entries that say their `index` are merged with their like."""

    def __init__(self, allowance: Allowance, *, drop_index: bool = False) -> None:
        self._allowance = allowance
        self._drop_index = drop_index
        self._entries: list[msgspec.Raw] = []
        self._by_index: dict[int, MergedObject] = {}

    def add(self, value: Any) -> None:
        if not isinstance(value, list):
            raise MalformedDeltaError(f"a list goes on with {_kind(value)}")
        for entry in cast("list[Any]", value):
            index = _index_of(entry)
            if index is None:
                encoded = encode_json(entry)
                self._allowance.spend(len(encoded) + 1)
                self._entries.append(msgspec.Raw(encoded))
            else:
                self._at(index).add(entry)

    def _at(self, index: int) -> MergedObject:
        if index not in self._by_index:
            self._allowance.spend(ENTRY_BYTES)
            self._by_index[index] = MergedObject(self._allowance)
        return self._by_index[index]

    def value(self) -> Any:
        indexed = [self._by_index[index].value() for index in sorted(self._by_index)]
        if self._drop_index:
            for entry in indexed:
                entry.pop("index", None)
        return [*indexed, *self._entries]


class MergedObject:
    """An object whose fields grow."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._fields: dict[str, _Node | None] = {}

    def add(self, value: Any) -> None:
        if not isinstance(value, dict):
            raise MalformedDeltaError(f"an object goes on with {_kind(value)}")
        for name, part in cast("dict[str, Any]", value).items():
            node = self._fields.get(name)
            if node is None:
                if name not in self._fields:
                    self._allowance.spend(len(name) + ENTRY_BYTES)
                node = self._fields[name] = None if part is None else self._start(name, part)
            if node is not None and part is not None:
                node.add(part)

    def value(self) -> dict[str, Any]:
        return {name: None if node is None else node.value() for name, node in self._fields.items()}

    def _start(self, name: str, value: Any) -> _Node:
        if name in _SAID_ONCE:
            return _First(self._allowance)
        if isinstance(value, str):
            return (_Name if name == "name" else _Text)(self._allowance)
        if isinstance(value, list):
            return MergedList(self._allowance, drop_index=name == "tool_calls")
        return (MergedObject if isinstance(value, dict) else _Last)(self._allowance)


_Node = _Text | _First | _Last | MergedList | MergedObject


def _index_of(entry: Any) -> int | None:
    index = cast("dict[str, Any]", entry).get("index") if isinstance(entry, dict) else None
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def _kind(value: Any) -> str:
    return f"a value of another kind ({type(value).__name__})"
