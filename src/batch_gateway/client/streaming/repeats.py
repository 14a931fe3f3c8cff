"""Events that are the one before again but for a text that grows: read without decoding them.

Nearly all events of an answer are such. What an event means is decided by the general way, which
`AnswerReader.feed` is; here it is only seen that another means the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any, cast

import msgspec

from batch_gateway.client.interfaces.transport import ChunkSink
from batch_gateway.client.streaming.assemble import Assembler
from batch_gateway.client.streaming.merging import GrowingText
from batch_gateway.wire.chunk_pattern import Make, Typed, chunk_maker
from batch_gateway.wire.chunks import Chunk, decode_json, encode_json
from batch_gateway.wire.transfer_chunks import chunk_head

__all__ = ["Put", "Repeats", "RepeatsForSink", "learnt"]

Put = Callable[[Iterable[Chunk], int], None]
"""Takes chunks, and how many they are; they may be made when they are read."""

_FIELD = b"data:"
# Stands for the text of an event while it is tried where in the event that is.
_PROBE = "probe"
# A text that is found more often than this in its event is not tried everywhere.
_MOST_TRIALS = 4

# So much of what is between two texts is looked for.
_SEAM = 16

# As a number: to look for bytes takes many times as long.
_BACKSLASH = ord("\\")

_CRLF = b"\r\n"
# From the end of a chunk with one event: where its JSON ends, and its size before where it begins.
_END_OF_CHUNK = -len(_CRLF)
_JSON_IN_CHUNK = len(_FIELD) - len(_CRLF)
_ChunkForm = tuple[bytes, int, int, int, int]
"""Of a chunk with one event: its first line, where the event begins, from where to where its text
is, with its quotes, and the event's size."""
# With no text where one should be, which is no JSON.
_NO_CHUNK: _ChunkForm = (b"", 0, 0, 0, 0)
# So much is read in one go without the parser; of many events that makes no less work.
_MOST_SEVERAL = 4 * 1024
_LONGEST_LINE = 10
# Of the last bytes of such a chunk, which are in no text.
_BREAKS = 6
# Reads of one stream are of few lengths.
_MOST_LENGTHS = 256

_decode_text = msgspec.json.Decoder(str).decode


class Repeats:
    """Reads events that begin and end as one before, with a JSON string between.

    Args:
        before: an event's bytes up to the string, its first quote included.
        after: those behind it, its last quote included.
        text: what the string is added to.
        typed: gives the typed chunk of a value, and is asked for that of a first such event.
        most: bytes of an event.

    Attributes:
        count: how many of them were read.
        frame: `before` and `after`.
        letters: JSON of what the string was added to, without its last quote.
    """

    __slots__ = (
        "_after",
        "_allowance",
        "_before",
        "_between",
        "_chunk_forms",
        "_heads",
        "_last",
        "_make",
        "_most",
        "_two",
        "_typed",
        "count",
        "frame",
        "letters",
    )

    def __init__(
        self, before: bytes, after: bytes, text: GrowingText, typed: Typed, most: int
    ) -> None:
        self._before, self._after = self.frame = before, after
        framed = _framed(len(before), after, most)
        self._two, self._most, self._last, self._chunk_forms, self._heads = framed
        self.letters, self._allowance = text.letters, text.allowance
        # What is between two texts, once it is looked for.
        self._between = ""
        self._typed = typed
        self._make: Make | None = None
        self.count = 0

    def put_behind(self, letters: bytearray) -> None:
        """Let these be what there is of the string; raises AnswerTooLargeError."""
        self._allowance.spend(len(letters) - len(self.letters))
        self.letters[:] = letters

    def take(self, data: bytes, put: Put | None = None) -> int:
        """How much of `data`, which begins an event, was such events. They are read now."""
        before, after, size = self._before, self._after, len(data)
        if not data.startswith(before):
            return 0
        if size < self._two and data.endswith(after):
            # What is shorter than two frames is one event, as nearly all reads are.
            return size if self._take_one(data, 0, size - len(after), put) else 0
        at = self._take_plain(data, put)
        while at < size and data.startswith(before, at):
            end = data.find(after, at + len(before))
            if not self._take_one(data, at, end, put):
                break
            at = end + len(after)
        return at

    def take_chunk(self, data: bytes, put: Put | None = None) -> int:
        """The size of such events, where `data` is chunks of the transfer coding with one in each.

        They are read now. 0 where `data` is anything else.
        """
        length = len(data)
        head, begin, start, end, size = self._chunk_forms.get(length) or self._chunk_form(length)
        if not (
            data.startswith(head)
            and data.endswith(self._last)
            and data.startswith(self._before, begin)
        ):
            return self._take_several(data, put) if self._two <= length <= _MOST_SEVERAL else 0
        # As `_take_one`, which would be a call for nearly every event that there is.
        quoted = data[start:end]
        try:
            said = _decode_text(quoted)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return 0
        added = encode_json(said)[1:-1] if _BACKSLASH in quoted else said.encode()
        allowance = self._allowance
        left = allowance.left - len(added)
        if left < 0:
            return 0
        allowance.left = left
        self.letters += added
        self.count += 1
        if put is not None:
            make = self._make or self._prepared()
            put((make(said, data[_JSON_IN_CHUNK - size : _END_OF_CHUNK]),), 1)
        return size

    def _take_several(self, data: bytes, put: Put | None) -> int:
        """The same of some chunks, where their texts are ASCII without escapes."""
        before, last, heads = self._before, self._last, self._heads
        line = data.find(_CRLF, 0, _LONGEST_LINE) + len(_CRLF)
        # To look for few bytes, that are rare, takes a fraction of the time.
        seam = last[-_BREAKS:]
        parts = data.split(seam)
        if parts.pop() or not data.startswith(before, line):
            return 0
        begin, end = line + len(before), len(seam) - len(last)
        texts = [part[begin:end] for part in parts]
        # Whatever was skipped is as it must be where all of it is.
        again = [heads[len(text)] + before + text for text in texts]
        again.append(b"")
        added = b"".join(texts)
        said = added.decode("latin-1")
        left = self._allowance.left - len(added)
        if not _is_plain(said) or left < 0 or b"" in texts or last.join(again) != data:
            return 0
        if max(map(len, texts)) + len('""') > self._most:
            return 0
        self._allowance.left = left
        self.letters += added
        self.count += len(texts)
        if put is not None:
            put(self._chunks_of(texts), len(texts))
        return len(added) + len(texts) * self._two // 2

    def _chunks_of(self, texts: list[bytes]) -> Iterator[Chunk]:
        make = self._make or self._prepared()
        before, after = self._before[len(_FIELD) :], self._after
        for text in texts:
            yield make(text.decode(), before + text + after)

    def _chunk_form(self, length: int) -> _ChunkForm:
        forms = self._chunk_forms
        if length >= self._two:
            return _NO_CHUNK
        if len(forms) >= _MOST_LENGTHS:
            forms.clear()
        before, after = map(len, self.frame)
        found = forms[length] = _chunk_form(length, before, after, self._most)
        return found

    def _take_one(self, data: bytes, begin: int, end: int, put: Put | None) -> bool:
        """Whether there is an event in `data`, with its text up to `end`; it is read now."""
        quoted = data[begin + len(self._before) - 1 : end + 1]
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
        self.letters += added
        self.count += 1
        if put is not None:
            make = self._make or self._prepared()
            put((make(said, data[begin + len(_FIELD) : end + len(self._after)]),), 1)
        return True

    def _take_plain(self, data: bytes, put: Put | None) -> int:
        """The same of many events at once, if they are ASCII without escapes."""
        start, end = len(self._before), data.rfind(self._after)
        if not start < end <= self._most:
            return 0
        whole, between = data[start:end].decode("latin-1"), self._between
        if not between:
            between = self._between = (self._after + self._before).decode("latin-1")
        # To look for a short text takes a fraction of the time.
        seam = between[: min(len(self._after), _SEAM)]
        first, *rest = whole.split(seam)
        skipped = len(between) - len(seam)
        texts = [first, *[part[skipped:] for part in rest]]
        said = "".join(texts)
        left = self._allowance.left - len(said)
        if not _is_plain(said) or left < 0 or "" in texts or between.join(texts) != whole:
            return 0
        self._allowance.left = left
        self.letters += said.encode()
        self.count += len(texts)
        if put is not None:
            put(self._chunks(texts, data), len(texts))
        return end + len(self._after)

    def _chunks(self, texts: list[str], data: bytes) -> Iterator[Chunk]:
        make, frame, end = self._make or self._prepared(), self._two // 2, 0
        for text in texts:
            start, end = end + len(_FIELD), end + frame + len(text)
            yield make(text, data[start:end])

    def _prepared(self) -> Make:
        data = self._before[len(_FIELD) :] + _PROBE.encode() + self._after
        make = self._make = chunk_maker(self._typed, decode_json(data), _PROBE)
        return make


class RepeatsForSink:
    """An `EventTaker` for chunks that somebody reads, as long as that one is not behind."""

    __slots__ = ("_events", "_sink")

    def __init__(self, events: Repeats, sink: ChunkSink) -> None:
        self._events = events
        self._sink = sink

    def take_chunk(self, data: bytes) -> int:
        sink = self._sink
        return 0 if sink.is_full else self._events.take_chunk(data, sink.put)

    def take(self, data: bytes) -> int:
        sink = self._sink
        return 0 if sink.is_full else self._events.take(data, sink.put)


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
            return Repeats(before, after, text, assembler.chunk, most)
    return None


def _is_plain(said: str) -> bool:
    """Whether a text in JSON stands there as it is."""
    return said.isascii() and said.isprintable() and '"' not in said and "\\" not in said


def _decoded(data: bytes) -> dict[str, Any]:
    try:
        value: Any = decode_json(data)
    except ValueError:
        value = None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


class _Heads(dict[int, bytes]):
    """First lines of chunks with an event that is so long without its text."""

    def __init__(self, frame: int) -> None:
        super().__init__()
        self._frame = frame

    def __missing__(self, length: int) -> bytes:
        head = b"%x\r\n" % (self._frame + length)
        if len(self) < _MOST_LENGTHS:
            self[length] = head
        return head


@lru_cache(maxsize=64)
def _framed(
    before: int, after: bytes, most: int
) -> tuple[int, int, bytes, dict[int, _ChunkForm], _Heads]:
    """Of events with so much before their text and that behind it: what two take without any, how
    long a text may be, how a chunk ends, its form by its length, and its first line by the text's.

    All answers of one gateway share them, and an answer of few events is not worth its own.
    """
    frame = before + len(after)
    return 2 * frame, most - frame, after + _CRLF, {}, _Heads(frame)


def _chunk_form(length: int, before: int, after: int, most: int) -> _ChunkForm:
    head = chunk_head(length)
    begin = len(head)
    size = length - begin - len(_CRLF)
    start, end = begin + before - 1, begin + size - after + 1
    return (head, begin, start, end, size) if 2 < end - start <= most else _NO_CHUNK
