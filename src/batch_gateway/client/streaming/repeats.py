"""Events that are the one before again but for a text that grows: read without decoding them.

Nearly all events of an answer are such. What an event means is decided by the general way, which
`AnswerReader.feed` is; here it is only seen that another means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import msgspec

from batch_gateway.client.streaming.assemble import Assembler
from batch_gateway.client.streaming.merging import GrowingText
from batch_gateway.wire.chunk_pattern import ChunkPattern
from batch_gateway.wire.chunks import Chunk, decode_json, encode_json

__all__ = ["Put", "Repeats", "learnt"]

Put = Callable[[Iterable[Chunk]], None]

_FIELD = b"data:"
# Stands for the text of an event while it is tried where in the event that is.
_PROBE = "probe"
# A text that is found more often than this in its event is not tried everywhere.
_MOST_TRIALS = 4

# As a number: to look for bytes takes many times as long.
_BACKSLASH = ord("\\")

_decode_text = msgspec.json.Decoder(str).decode


class Repeats:
    """Reads events that begin and end as one before, with a JSON string between.

    Args:
        before: an event's bytes up to the string, its first quote included.
        after: those behind it, its last quote included.
        text: what the string is added to.
        pattern: makes the chunks of such events.
        most: bytes of an event.

    Attributes:
        count: how many of them were read.
    """

    __slots__ = (
        "_after",
        "_allowance",
        "_before",
        "_between",
        "_frame",
        "_letters",
        "_most",
        "_pattern",
        "_quoted",
        "count",
    )

    def __init__(
        self, before: bytes, after: bytes, text: GrowingText, pattern: ChunkPattern, most: int
    ) -> None:
        self._before, self._after = before, after
        # Of an event by itself, the string in its quotes.
        self._quoted = slice(len(before) - 1, 1 - len(after))
        self._frame = len(before) + len(after)
        self._between = (after + before).decode("latin-1")
        self._most = most - self._frame
        self._letters, self._allowance = text.letters, text.allowance
        self._pattern = pattern
        self.count = 0

    def take(self, data: bytes, put: Put | None) -> int:
        """How much of `data`, which begins an event, was such events. They are read now."""
        before, after = self._before, self._after
        # What is shorter than two frames is one event, as nearly all reads are.
        if len(data) < 2 * self._frame:
            is_one = data.startswith(before) and data.endswith(after)
            return len(data) if is_one and self._add(data[self._quoted], put, data, 0) else 0
        at = self._take_plain(data, put)
        while data.startswith(before, at):
            start = at + len(before)
            end = data.find(after, start)
            if not self._add(data[start - 1 : end + 1], put, data, at):
                break
            at = end + len(after)
        return at

    def _take_plain(self, data: bytes, put: Put | None) -> int:
        """The same of many events at once, if they are ASCII without escapes."""
        start, end = len(self._before), data.rfind(self._after)
        if not data.startswith(self._before) or not start < end <= self._most:
            return 0
        texts = data[start:end].decode("latin-1").split(self._between)
        said = "".join(texts)
        is_plain = said.isascii() and said.isprintable() and '"' not in said and "\\" not in said
        left = self._allowance.left - len(said)
        if not is_plain or left < 0 or "" in texts:
            return 0
        self._allowance.left = left
        self._letters += said.encode()
        self.count += len(texts)
        if put is not None:
            put(self._chunks(texts, data))
        return end + len(self._after)

    def _chunks(self, texts: list[str], data: bytes) -> Iterator[Chunk]:
        frame, end = self._frame, 0
        for text in texts:
            start, end = end, end + frame + len(text)
            yield self._pattern.chunk(text, data[start + len(_FIELD) : end])

    def _add(self, quoted: bytes, put: Put | None, data: bytes, at: int) -> bool:
        """Add a JSON string to the text, unless it is none, or is one for the general way."""
        try:
            said = _decode_text(quoted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        added = encode_json(said)[1:-1] if _BACKSLASH in quoted else quoted[1:-1]
        left = self._allowance.left - len(added)
        # Empty text is nothing that was generated.
        if not said or left < 0 or len(quoted) > self._most:
            return False
        self._allowance.left = left
        self._letters += added
        self.count += 1
        if put is not None:
            end = at + self._frame + len(quoted) - 2
            put((self._pattern.chunk(said, data[at + len(_FIELD) : end]),))
        return True


def learnt(event: bytes, value: dict[str, Any], assembler: Assembler, most: int) -> Repeats | None:
    """What reads events like this one; None when there is nothing to be learnt from it.

    `value` is its data, and the chunk that the assembler took in last.
    """
    grown = assembler.grown_by(value) if event.startswith(_FIELD) else None
    if grown is None:
        return None
    text, added = grown
    said, start = encode_json(added), -1
    for _ in range(_MOST_TRIALS):
        start = event.find(said, start + 1)
        if start < 0:
            break
        before, after = event[: start + 1], event[start + len(said) - 1 :]
        tried = _decoded(before[len(_FIELD) :] + _PROBE.encode() + after)
        if assembler.grown_by(tried) == (text, _PROBE):
            pattern = ChunkPattern(assembler.chunk, tried, _PROBE)
            return Repeats(before, after, text, pattern, most)
    return None


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        value: Any = decode_json(data)
    except ValueError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
