"""Learning the form of answers from one that was read in the general way. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from batch_gateway.client.streaming.answer_form import (
    RESERVE,
    TEXT,
    AnswerForm,
    EventForm,
    filler,
    place,
)
from batch_gateway.client.streaming.answer_reader import AnswerReader
from batch_gateway.client.streaming.assemble import assembler_for
from batch_gateway.client.streaming.repeats import Repeats
from batch_gateway.errors import InferenceError
from batch_gateway.wire.chunk_pattern import read_chat_chunk, read_completion_chunk
from batch_gateway.wire.chunks import Chunk

__all__ = ["FormLesson"]

# Of all events but those with text.
_MOST_BYTES = 8 * 1024
_NO_LIMIT = 2**40
_ENDPOINTS = ("/completions",)
_FIELD = b"data:"

# A whole answer in a chunk, and what a typed chunk has itself under that name.
_ODD_FIELDS = (b'"message"', b'"raw"')

# Values that may be others in the next answer, and what each may be. None of them is empty or 0,
# which the general way takes for none.
_NUMBER = rb"0|[1-9][0-9]{0,14}"
_VALUES = {
    b"id": rb"[!#-\[\]-~]{1,200}",
    b"created": rb"[1-9][0-9]{0,14}",
    b"reason": rb"stop|length",
}
_PLACES = re.compile(
    rb'"id": ?"(?P<id>%b)"|"created": ?(?P<created>%b)(?=[,}])'
    rb'|"finish_reason": ?"(?P<reason>%b)"' % tuple(_VALUES.values())
)
_NAMING = (b"id", b"created")
_USAGE = re.compile(rb'"usage": ?(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
_COUNT = re.compile(rb"(?<=[:\[, ])(?:%b)(?=[,\]}])" % _NUMBER)

# What stands for the values while a form is tried.
_PROBES = {
    b"id": b"form-probe-7f",
    b"created": b"987654321012345",
    b"reason": b"form-probe-end",
}
_FIRST_COUNT = 900_000_000_000_001
_TEXT = b"form probe text 7f"
_MARKS = (*_PROBES.values(), _TEXT, b"90000000000")


class _Heard(msgspec.Struct, frozen=True):
    event: bytes
    is_chunk: bool
    has_ended: bool


class _Slot(msgspec.Struct, frozen=True):
    """Where in an event a value is, and what it is called."""

    name: bytes
    start: int
    end: int
    probe: bytes


class FormLesson:
    """Hears what is read of an answer in the general way.

    Attributes:
        is_over: nothing can be learnt from the answer.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._opening: list[_Heard] = []
        self._closing: list[_Heard] = []
        self._run: Repeats | None = None
        self._left = _MOST_BYTES
        self.is_over = not endpoint.endswith(_ENDPOINTS)

    def hear(self, event: bytes, run: Repeats | None, reader: AnswerReader, chunks: int) -> None:
        """An event was read, which had so many chunks in it, behind others that `run` had read."""
        if run is not None:
            self.is_over = self.is_over or self._run is not None
            self._run = run
        heard = self._opening if self._run is None else self._closing
        self._left -= len(event)
        is_plain = _is_one(event) and chunks == (not reader.complete)
        if self._left < 0 or not is_plain or any(odd in event for odd in _ODD_FIELDS):
            self.is_over = True
        heard.append(_Heard(event, bool(chunks), reader.ended_choices == 1))

    def form(self, body: bytes) -> AnswerForm | None:
        """The form of the answer whose body that is; None when it has none that holds."""
        run = self._run
        if self.is_over or run is None or not self._closing or self._closing[-1].is_chunk:
            return None
        # What was learnt from is itself the first with text.
        before, after = run.frame
        first = self._opening.pop()
        if not (first.event.startswith(before) and first.event.endswith(after)):
            return None
        heard = [*self._opening, *self._closing]
        if any(mark in one.event for one in heard for mark in (*_MARKS, b"\0")):
            return None
        try:
            return _Draft(self._endpoint, heard, len(self._opening), run).form(body)
        except (InferenceError, ValueError):
            return None


class _Draft:
    """A form on its way: every event with its places for values."""

    def __init__(self, endpoint: str, heard: Sequence[_Heard], opening: int, run: Repeats) -> None:
        self._endpoint = endpoint
        self._heard = heard
        self._opening = opening
        self._run = run
        self._before, self._after = run.frame
        self._counts = 0
        self._slots = [self._slots_of(one.event) for one in heard]
        self._naming = tuple(slot.name for slot in _slots_in(self._before))
        is_chat = endpoint.endswith("/chat/completions")
        self._read_chunk: Callable[[bytes], Chunk]
        self._read_chunk = read_chat_chunk if is_chat else read_completion_chunk
        self._typed = assembler_for(endpoint, _NO_LIMIT).chunk

    def form(self, body: bytes) -> AnswerForm | None:
        if not self._opening or _slots_in(self._after) or not self._is_named_alike():
            return None
        tried = self._tried()
        names = self._naming + tuple(
            slot.name for slots in self._slots for slot in slots if slot.name not in _NAMING
        )
        form = AnswerForm(
            events=tuple(map(self._event_form, self._heard, self._slots)),
            opening=self._opening,
            before=filler(self._with_places(self._before), self._naming),
            after=self._after,
            body=filler(self._with_marks_as_places(tried), (*names, TEXT)),
            naming=len(self._naming),
            read_chunk=self._read_chunk,
            typed=self._typed,
        )
        values = self._said()
        again = form.body((*(values[name] for name in names), bytes(self._run.letters[1:-1])))
        is_whole = tried.count(_TEXT) == 1 and len(names) == len(set(names))
        return form if is_whole and again == body else None

    def _slots_of(self, event: bytes) -> list[_Slot]:
        slots = _slots_in(event)
        for usage in _USAGE.finditer(event):
            for found in _COUNT.finditer(event, *usage.span(1)):
                probe = b"%d" % (_FIRST_COUNT + self._counts)
                slots.append(_Slot(b"count%d" % self._counts, *found.span(), probe))
                self._counts += 1
        return sorted(slots, key=lambda slot: slot.start)

    def _is_named_alike(self) -> bool:
        """Whether each chunk begins with the same values of the same names, and none repeats."""
        named = [self._before[slot.start : slot.end] for slot in _slots_in(self._before)]
        for one, slots in zip(self._heard, self._slots, strict=True):
            count = len(self._naming) if one.is_chunk else 0
            if tuple(slot.name for slot in slots[:count]) != self._naming[:count]:
                return False
            if [one.event[slot.start : slot.end] for slot in slots[:count]] != named[:count]:
                return False
            if any(slot.name in _NAMING for slot in slots[count:]):
                return False
        return True

    def _said(self) -> dict[bytes, bytes]:
        """The values of the answer that was heard."""
        return {
            slot.name: one.event[slot.start : slot.end]
            for one, slots in zip(self._heard, self._slots, strict=True)
            for slot in slots
        }

    def _tried(self) -> bytes:
        """The body of an answer with other values, read in the general way.

        Raises InferenceError where all but its text is more than is held back for that.
        """
        reader = AnswerReader(self._endpoint, RESERVE, _NO_LIMIT)
        before = _filled(self._before, _slots_in(self._before))
        heard = zip(self._heard, self._slots, strict=True)
        events = [_filled(one.event, slots) for one, slots in heard]
        events.insert(self._opening, before + _TEXT + self._after)
        for number, event in enumerate(events):
            for value in reader.feed(event):
                self._require_typed(event, value)
                if number == self._opening and reader.assembler.grown_by(value) is None:
                    raise ValueError("more than the text grows")
            if reader.generated != (number >= self._opening):
                raise ValueError("something else than the text is generated")
        if not reader.complete:
            raise ValueError("it has no end")
        return reader.finish()

    def _require_typed(self, event: bytes, value: Mapping[str, Any]) -> None:
        """Raises ValueError where the typed chunk of an event is not what its data say outright."""
        read, typed = self._read_chunk(event[len(_FIELD) :]), self._typed(value)
        names = [name for name in typed.__struct_fields__ if name != "_raw"]
        if [getattr(read, name) for name in names] != [getattr(typed, name) for name in names]:
            raise ValueError("a field of it is of an odd type")

    def _event_form(self, heard: _Heard, slots: list[_Slot]) -> EventForm:
        is_named = heard.is_chunk and bool(self._naming)
        at = self._shared(heard, slots) if heard in self._heard[self._opening :] else 0
        shared = len(self._before) - at if at else -1
        pattern, naming = b"", len(self._naming) if at else 0
        for slot in slots[naming:]:
            allowed = _VALUES.get(slot.name, _NUMBER)
            pattern += re.escape(heard.event[at : slot.start]) + b"(" + allowed + b")"
            at = slot.end
        matches = re.compile(pattern + re.escape(heard.event[at:])).match
        return EventForm(shared, matches, is_named and shared < 0, heard.is_chunk, heard.has_ended)

    def _shared(self, heard: _Heard, slots: list[_Slot]) -> int:
        """How far an event begins as one with text does, where all that names it is in that."""
        naming = len(self._naming) if heard.is_chunk else 0
        pairs = enumerate(zip(heard.event, self._before, strict=False))
        size = next((at for at, (one, other) in pairs if one != other), 0)
        if slots[naming:]:
            size = min(size, slots[naming].start)
        named = slots[:naming]
        return size if named and named[-1].end < size else 0

    def _with_places(self, event: bytes) -> bytes:
        parts, at = list[bytes](), 0
        for slot in _slots_in(event):
            parts += [event[at : slot.start], place(slot.name)]
            at = slot.end
        return b"".join([*parts, event[at:]])

    def _with_marks_as_places(self, body: bytes) -> bytes:
        for slots in self._slots:
            for slot in slots:
                body = body.replace(slot.probe, place(slot.name))
        return body.replace(_TEXT, place(TEXT))


def _slots_in(event: bytes) -> list[_Slot]:
    """Where what names the answer is, and why it ended."""
    slots: list[_Slot] = []
    for found in _PLACES.finditer(event):
        name = (found.lastgroup or "").encode()
        slots.append(_Slot(name, *found.span(name.decode()), _PROBES[name]))
    return slots


def _filled(event: bytes, slots: Sequence[_Slot]) -> bytes:
    parts, at = list[bytes](), 0
    for slot in slots:
        parts += [event[at : slot.start], slot.probe]
        at = slot.end
    return b"".join([*parts, event[at:]])


def _is_one(event: bytes) -> bool:
    """Whether these bytes are one event of one line, from begin to end."""
    lines = event.splitlines()
    return event.startswith(_FIELD) and len(lines) == 2 and event.endswith(b"\n") and not lines[1]
