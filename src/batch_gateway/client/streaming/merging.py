"""Values that grow by deltas: known text is appended, lists are extended, objects are merged.

What is kept is JSON as it will stand in the answer, and what it costs in memory is counted as it
grows, so that a server cannot make this process use much more than the limit says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import msgspec

from batch_gateway.wire.chunks import encode_json, index_in

__all__ = [
    "ENTRY_BYTES",
    "Allowance",
    "AnswerTooLargeError",
    "FirstValue",
    "GrowingName",
    "GrowingText",
    "Growth",
    "IncompleteAnswerError",
    "LastValue",
    "MalformedDeltaError",
    "MergedList",
    "MergedObject",
    "Start",
    "Texts",
    "index_of",
    "kind_of",
]

# What a place in a dictionary costs, with its key but for the letters of it. Measured with
# tracemalloc on CPython 3.11, as are the costs of objects below.
ENTRY_BYTES = 100
_SMALL_OBJECT_BYTES = 100
_TEXT_BYTES = 150
_CONTAINER_BYTES = 250

# Objects inside objects are merged down to here; what is deeper is taken as a whole.
_DEEPEST = 6


class MalformedDeltaError(Exception):
    """A delta does not fit what came before it."""


class AnswerTooLargeError(Exception):
    """The answer has outgrown its limit."""


class IncompleteAnswerError(Exception):
    """The stream ended before the answer did; says what is missing."""


class Allowance:
    """How many more bytes an answer may take."""

    __slots__ = ("left",)

    def __init__(self, limit: int) -> None:
        self.left = limit

    def spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise AnswerTooLargeError


class Growth(Protocol):
    """What has arrived of a value."""

    def add(self, value: Any) -> bool:
        """Take in what a delta says; whether something generated is in it.

        Raises MalformedDeltaError for a value of another kind than before, AnswerTooLargeError.
        """
        ...

    def regrows(self, value: Any, texts: Texts) -> bool:
        """Whether the value that was added last would, added again, change nothing but texts.

        Those it puts into `texts`, each with what it would grow by.
        """
        ...

    def value(self) -> Any:
        """All of it, encoded or ready to be. Asked for once, at the end."""
        ...


Texts = list[tuple["GrowingText", str]]
"""Texts that grow, and by what."""

Start = Callable[[str, Any, Allowance, int], Growth]
"""How the value of a field begins: from its name, its first value that is not null, and how deep
in the answer it stands."""


class GrowingText:
    """Text that is appended, as JSON: a list of its pieces would take many times as much.

    Attributes:
        letters: JSON of what has come, without the last quote. Each byte was spent of `allowance`.
    """

    __slots__ = ("allowance", "letters")

    def __init__(self, allowance: Allowance) -> None:
        allowance.spend(_TEXT_BYTES)
        self.allowance = allowance
        self.letters = bytearray(b'"')

    def add(self, value: Any) -> bool:
        if not isinstance(value, str):
            raise MalformedDeltaError(f"text goes on with {kind_of(value)}")
        if not value:
            return False
        encoded = encode_json(value)[1:-1]
        self.allowance.spend(len(encoded))
        self.letters += encoded
        return True

    def regrows(self, value: Any, texts: Texts) -> bool:
        if value:
            texts.append((self, value))
        return True

    def value(self) -> Any:
        text, self.letters = self.letters, bytearray(b'"')
        text += b'"'
        return msgspec.Raw(text)


class GrowingName:
    """A function's name: some servers send it in pieces, others whole again and again."""

    __slots__ = ("_allowance", "_name")

    def __init__(self, allowance: Allowance) -> None:
        allowance.spend(_TEXT_BYTES)
        self._allowance = allowance
        self._name = bytearray(b'"')

    def add(self, value: Any) -> bool:
        if not isinstance(value, str):
            raise MalformedDeltaError(f"a name goes on with {kind_of(value)}")
        encoded = encode_json(value)[:-1]
        # Unequal lengths settle it: the cost is that of the piece, not of the name.
        if bytes(self._name[: len(encoded) + 1]) != encoded:
            self._allowance.spend(len(encoded))
            self._name += encoded[1:]
        return bool(value)

    def regrows(self, value: Any, texts: Texts) -> bool:
        return False

    def value(self) -> Any:
        return msgspec.Raw(self._name + b'"')


class FirstValue:
    """The first value that is not empty, or an empty one."""

    __slots__ = ("_allowance", "_is_said", "_value")

    def __init__(self, allowance: Allowance) -> None:
        allowance.spend(_SMALL_OBJECT_BYTES)
        self._allowance = allowance
        self._is_said = False
        self._value = b"null"

    def add(self, value: Any) -> bool:
        if not self._is_said:
            encoded = encode_json(value)
            self._allowance.spend(len(encoded) - len(self._value))
            self._value = encoded
            self._is_said = bool(value)
        return False

    def regrows(self, value: Any, texts: Texts) -> bool:
        return True

    def value(self) -> Any:
        return msgspec.Raw(self._value)


class LastValue:
    """The latest value that is not empty text: servers repeat what they said, or correct it."""

    __slots__ = ("_allowance", "_value")

    def __init__(self, allowance: Allowance) -> None:
        allowance.spend(_SMALL_OBJECT_BYTES)
        self._allowance = allowance
        self._value = b""

    def add(self, value: Any) -> bool:
        if value == "" and self._value:
            return False
        encoded = encode_json(value)
        if encoded != self._value:
            self._allowance.spend(len(encoded) - len(self._value))
            self._value = encoded
        return False

    def regrows(self, value: Any, texts: Texts) -> bool:
        return True

    def value(self) -> Any:
        return msgspec.Raw(self._value)


class MergedList:
    """A list that is extended; entries that say their `index` are merged with their like."""

    __slots__ = ("_allowance", "_at", "_begun", "_depth", "_entries", "_start")

    def __init__(self, allowance: Allowance, start: Start, depth: int) -> None:
        allowance.spend(_CONTAINER_BYTES)
        self._allowance = allowance
        self._start = start
        self._depth = depth
        self._entries = bytearray()
        self._begun: list[tuple[int, MergedObject]] = []
        self._at: dict[tuple[int, str], MergedObject] = {}

    def add(self, value: Any) -> bool:
        if not isinstance(value, list):
            raise MalformedDeltaError(f"a list goes on with {kind_of(value)}")
        for entry in cast("list[Any]", value):
            index = index_of(entry)
            if index is None or self._depth >= _DEEPEST:
                encoded = encode_json(entry)
                self._allowance.spend(len(encoded) + 1)
                self._entries += encoded
                self._entries += b","
            else:
                self._like(index, entry).add(entry)
        return bool(cast("list[Any]", value))

    def _like(self, index: int, entry: dict[str, Any]) -> MergedObject:
        """The entry that another of its index and type began; without a type, the latest there."""
        kind = entry.get("type")
        key = (index, kind if isinstance(kind, str) else "")
        found = self._at.get(key)
        if found is None:
            self._allowance.spend(2 * ENTRY_BYTES)
            found = self._at[key] = MergedObject(self._allowance, self._start, self._depth + 1)
            self._begun.append((index, found))
        self._at[index, ""] = found
        return found

    def regrows(self, value: Any, texts: Texts) -> bool:
        return not value

    def value(self) -> Any:
        begun = sorted(self._begun, key=lambda pair: pair[0])
        parts: list[bytes] = [encode_json(one.value()) for _, one in begun]
        if self._entries:
            parts.append(bytes(self._entries[:-1]))
        return msgspec.Raw(b"[" + b",".join(parts) + b"]")


class MergedObject:
    """An object whose fields grow; `start` says how each of them does."""

    __slots__ = ("_allowance", "_depth", "_fields", "_start")

    def __init__(self, allowance: Allowance, start: Start, depth: int = 0) -> None:
        allowance.spend(_CONTAINER_BYTES)
        self._allowance = allowance
        self._start = start
        self._depth = depth
        self._fields: dict[str, Growth | None] = {}

    def add(self, value: Any) -> bool:
        if not isinstance(value, dict):
            raise MalformedDeltaError(f"an object goes on with {kind_of(value)}")
        grew, fields = False, self._fields
        for name, part in cast("dict[str, Any]", value).items():
            growth = fields.get(name)
            if growth is None:
                if name not in fields:
                    self._allowance.spend(len(name) + ENTRY_BYTES)
                    fields[name] = None
                if part is None:
                    continue
                growth = fields[name] = self._begun(name, part)
            if part is not None and growth.add(part):
                grew = True
        return grew

    def regrows(self, value: Any, texts: Texts) -> bool:
        known = self._fields
        return isinstance(value, dict) and all(
            part is None or ((one := known.get(name)) is not None and one.regrows(part, texts))
            for name, part in cast("dict[str, Any]", value).items()
        )

    def _begun(self, name: str, part: Any) -> Growth:
        if self._depth >= _DEEPEST:
            return LastValue(self._allowance)
        return self._start(name, part, self._allowance, self._depth + 1)

    def value(self) -> dict[str, Any]:
        return {name: None if one is None else one.value() for name, one in self._fields.items()}


def index_of(entry: Any) -> int | None:
    """The index that an entry of a list says; None when it says none."""
    return index_in(cast("dict[str, Any]", entry)) if isinstance(entry, dict) else None


def kind_of(value: Any) -> str:
    return f"a value of another kind ({type(value).__name__})"
