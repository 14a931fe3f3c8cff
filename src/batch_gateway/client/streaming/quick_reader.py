"""Reads an answer as `AnswerReader` does, most of it without decoding. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from batch_gateway.client.streaming.answer_form import (
    LEAST_ANSWER,
    LEAST_EVENT,
    AnswerForm,
    FormReading,
)
from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.client.streaming.form_lesson import FormLesson
from batch_gateway.client.streaming.repeats import Put, Repeats, learnt
from batch_gateway.wire.chunks import Chunk

__all__ = ["QuickReader"]

_LONGEST_PAUSE = 64
# The beginning of an event that is kept until the rest of it comes, while it may be of the form.
_MOST_KEPT = 4 * 1024
# Stands for the text that was read by a form, for the general way to learn where that is.
_LETTER = b"x"


class QuickReader:
    """Reads one answer, of which `AnswerReader.feed` says what it means.

    An answer of a known form is read by that form alone. In any other the events behind one that
    differ from it in a text alone are read by what was learnt from it.

    Args:
        endpoint, most_answer, most_event: as for `AnswerReader`.
        form: that of an answer before, by which this one is read as far as it goes.
        is_lesson: whether the form of this answer is wanted.

    Attributes:
        has_left: whether the answer was found not to be of the form that it was to have.
        ready: reads what comes next, if that begins an event with text; None where that is not
            to be seen.
    """

    __slots__ = (
        "_endpoint",
        "_kept",
        "_lesson",
        "_most_answer",
        "_most_event",
        "_pause",
        "_reader",
        "_reading",
        "_repeats",
        "_told",
        "_until_lesson",
        "has_left",
        "ready",
    )

    def __init__(
        self,
        endpoint: str,
        most_answer: int,
        most_event: int,
        *,
        form: AnswerForm | None = None,
        is_lesson: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._most_answer = most_answer
        self._most_event = most_event
        self._reader: AnswerReader | None = None
        self._reading: FormReading | None = None
        if form is not None and most_answer >= LEAST_ANSWER and most_event >= LEAST_EVENT:
            self._reading = FormReading(form, most_answer, most_event)
        self._kept = b""
        self.has_left = False
        self._lesson = FormLesson(endpoint) if is_lesson else None
        self._repeats: Repeats | None = None
        # How many of those the reader knows of.
        self._told = 0
        self.ready: Repeats | None = None
        # Chunks until it is tried again to learn from one, and how many those were.
        self._until_lesson = 0
        self._pause = 1

    def take(self, data: bytes, put: Put | None) -> None:
        """Read all that `data` completes, and `put` its chunks; raises as `AnswerReader.feed`."""
        if self._reading is not None:
            data = self._take_of_form(self._reading, data, put)
            if not data:
                return
        reader = self._general
        while data and not reader.complete:
            if self.ready is not None:
                data = data[self.ready.take(data, put) :]
                if not data:
                    return
            data = data[self._take_next(reader, data, put) :]

    def take_known(self, data: bytes, put: Put | None) -> int:
        """How much of `data` was chunks, or the last word, as those that are known. The rest is
        for `take`.
        """
        ready, reading = self.ready, self._reading
        taken = 0 if ready is None else ready.take(data, put)
        if taken < len(data) and reading is not None and not self._kept:
            taken += reading.take(data[taken:], put)
            self.ready = reading.run if reading.is_amid_texts else None
        return taken

    @property
    def chunks(self) -> int:
        """How many chunks have arrived."""
        if self._reading is not None:
            return self._reading.chunks
        self._settle()
        return self._general.chunks

    @property
    def generated(self) -> bool:
        """Whether something generated has arrived."""
        if self._reading is not None:
            return self._reading.run is not None and self._reading.run.count > 0
        return self._general.generated

    @property
    def complete(self) -> bool:
        """Whether the server said that nothing more follows."""
        reading = self._reading
        return self._general.complete if reading is None else reading.complete

    @property
    def ended_choices(self) -> int:
        """How many choices there are, when every one of them has ended; else 0."""
        reading = self._reading
        return self._general.ended_choices if reading is None else int(reading.has_ended)

    @property
    def is_of_form(self) -> bool:
        """Whether all of it is of the form that it was to have."""
        return self._reading is not None

    @property
    def is_lesson(self) -> bool:
        """Whether the form of the answer may still be learnt from it."""
        return self._lesson is not None

    def end(self) -> Iterator[Chunk]:
        """The chunks that the end of the stream completes, where only an empty line was missing."""
        if not self.complete:
            reader = self._read_generally()
            for value in reader.end():
                self._lesson = None
                yield reader.typed(value)

    def finish(self, choices: int = 1) -> bytes:
        """The body of the whole answer; see `AnswerReader.finish`."""
        if self._reading is not None and self._reading.complete:
            return self._reading.body()
        return self._read_generally().finish(choices)

    def form(self, body: bytes) -> AnswerForm | None:
        """What was learnt of the answer's form, where a lesson was wanted; `body` is the answer."""
        return None if self._lesson is None else self._lesson.form(body)

    def chunk_of_body(self, body: bytes) -> Chunk:
        """See `AnswerReader.chunk_of_body`."""
        return self._general.chunk_of_body(body)

    # --- by a form ---

    def _take_of_form(self, reading: FormReading, data: bytes, put: Put | None) -> bytes:
        """What is left for the general way."""
        data = self._kept + data if self._kept else data
        taken = reading.take(data, put)
        self._kept = b""
        self.ready = reading.run if reading.is_amid_texts else None
        if taken == len(data) or reading.complete:
            return b""
        rest = data[taken:]
        if len(rest) < _MOST_KEPT and b"\n" not in rest and b"\r" not in rest:
            self._kept, self.ready = rest, None
            return b""
        self._leave(reading)
        return rest

    def _leave(self, reading: FormReading) -> None:
        """Go on in the general way, as if all had been read so."""
        self._reading = self.ready = None
        self.has_left = True
        reader = self._general
        for event in reading.opening:
            for _ in reader.feed(event):
                pass
        run = reading.run
        if run is not None and run.count:
            before, after = run.frame
            event = before + _LETTER + after
            for value in reader.feed(event):
                self._repeats = learnt(event, value, reader.assembler, self._most_event)
            reader.has_read(run.count - 1)
            if self._repeats is not None:
                self._repeats.put_behind(reading.letters)
        for event in reading.closing:
            for _ in reader.feed(event):
                self._repeats = None
        self.ready = self._repeats

    # --- in the general way ---

    @property
    def _general(self) -> AnswerReader:
        reader = self._reader
        if reader is None:
            reader = AnswerReader(self._endpoint, self._most_answer, self._most_event)
            self._reader = reader
        return reader

    def _read_generally(self) -> AnswerReader:
        """The reader, which has all that came."""
        if self._reading is not None:
            kept, self._kept = self._kept, b""
            self._leave(self._reading)
            self.take(kept, None)
        self._settle()
        return self._general

    def _settle(self) -> None:
        """Let the reader know what was read without it."""
        if self._repeats is not None and self._repeats.count > self._told:
            self._general.has_read(self._repeats.count - self._told)
            self._told = self._repeats.count

    def _take_next(self, reader: AnswerReader, data: bytes, put: Put | None) -> int:
        """Where the next event ends, read the general way; all of `data` between two lessons."""
        self._settle()
        run, lesson = self._repeats if self._told else None, self._lesson
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
            self._learn(reader, event if begins and read == 1 else b"", value)
        self.ready = self._repeats if reader.is_between_events else None
        if lesson is not None:
            lesson.hear(event, run, reader, read)
            if lesson.is_over:
                self._lesson = None
        return end

    def _learn(self, reader: AnswerReader, event: bytes, value: dict[str, Any]) -> None:
        """A stream in which no event is as the one before is tried less and less often."""
        before, self._repeats, self._told = self._repeats, None, 0
        if before is not None:
            self._pause = 1 if before.count else min(2 * self._pause, _LONGEST_PAUSE)
            self._until_lesson = 0 if before.count else self._pause
        if not self._until_lesson:
            self._repeats = learnt(event, value, reader.assembler, self._most_event)


def _end_of_event(data: bytes) -> int:
    """Behind the empty line, where the whole of one is there."""
    for line in (b"\n\n", b"\r\n\r\n"):
        end = data.find(line)
        if end >= 0:
            return end + len(line)
    return len(data)
