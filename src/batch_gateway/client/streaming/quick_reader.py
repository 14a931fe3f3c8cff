"""An `AnswerReader` that reads in one go the events that are as the one before. Pure."""

from __future__ import annotations

from typing import Any

from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.client.streaming.repeats import Put, Repeats, learnt

__all__ = ["QuickReader"]

_LONGEST_PAUSE = 64


class QuickReader:
    """Reads an answer into `reader`, whose `feed` says what an event means.

    The events behind it that differ in a text alone are read by what was learnt from it.

    Args:
        most: bytes of an event.
    """

    __slots__ = ("_most", "_pause", "_reader", "_repeats", "_told", "_until_lesson", "ready")

    def __init__(self, reader: AnswerReader, most: int) -> None:
        self._reader = reader
        self._most = most
        self._repeats: Repeats | None = None
        # How many of those the reader knows of.
        self._told = 0
        # The same when what comes next begins an event.
        self.ready: Repeats | None = None
        # Chunks until it is tried again to learn from one, and how many those were.
        self._until_lesson = 0
        self._pause = 1

    def take(self, data: bytes, put: Put | None) -> None:
        """Read all that `data` completes, and `put` its chunks; raises as `AnswerReader.feed`."""
        while data and not self._reader.complete:
            if self.ready is not None:
                data = data[self.ready.take(data, put) :]
                if not data:
                    return
            data = data[self._take_next(data, put) :]

    @property
    def chunks(self) -> int:
        """How many chunks have arrived."""
        self.settle()
        return self._reader.chunks

    def settle(self) -> None:
        """Let the reader know what was read without it."""
        if self._repeats is not None and self._repeats.count > self._told:
            self._reader.has_read(self._repeats.count - self._told)
            self._told = self._repeats.count

    def _take_next(self, data: bytes, put: Put | None) -> int:
        """Where the next event ends, read the general way; all of `data` between two lessons."""
        self.settle()
        reader = self._reader
        known, begins, value = reader.chunks, reader.is_between_events, None
        end = len(data) if self._until_lesson else _end_of_event(data)
        event = data[:end]
        for value in reader.feed(event):
            if put is not None:
                put((reader.typed(value),), 1)
        read = reader.chunks - known
        if self._until_lesson:
            self._until_lesson = max(0, self._until_lesson - read)
        elif value is not None:
            # What was learnt before may hold no longer.
            self._learn(event if begins and read == 1 else b"", value)
        self.ready = self._repeats if reader.is_between_events else None
        return end

    def _learn(self, event: bytes, value: dict[str, Any]) -> None:
        """A stream in which no event is as the one before is tried less and less often."""
        before, self._repeats, self._told = self._repeats, None, 0
        if before is not None:
            self._pause = 1 if before.count else min(2 * self._pause, _LONGEST_PAUSE)
            self._until_lesson = 0 if before.count else self._pause
        if not self._until_lesson:
            self._repeats = learnt(event, value, self._reader.assembler, self._most)


def _end_of_event(data: bytes) -> int:
    """Behind the empty line, where the whole of one is there."""
    for line in (b"\n\n", b"\r\n\r\n"):
        end = data.find(line)
        if end >= 0:
            return end + len(line)
    return len(data)
