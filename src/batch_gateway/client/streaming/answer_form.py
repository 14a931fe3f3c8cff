"""The form that answers of one gateway have, and reading another answer by it. Pure.

Answers of one model are the same bytes but for the text, for what names the answer, for the reason
it ended and for the numbers in its usage. Nothing else of an answer of a known form is decoded, and
its body is the form's with these values in it. What the bytes mean is decided by the general way,
which `AnswerReader` is; `form_lesson` tries a form by it before anything is read so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import NamedTuple

import msgspec

from batch_gateway.client.streaming.merging import Allowance, GrowingText
from batch_gateway.client.streaming.repeats import Put, Repeats
from batch_gateway.wire.chunk_pattern import Typed
from batch_gateway.wire.chunks import Chunk

__all__ = [
    "LEAST_ANSWER",
    "LEAST_EVENT",
    "RESERVE",
    "TEXT",
    "AnswerForm",
    "EventForm",
    "Fill",
    "FormReading",
    "filler",
    "place",
]

_FIELD = b"data:"
_Match = Callable[[bytes, int], re.Match[bytes] | None]

Fill = Callable[[tuple[bytes, ...]], bytes]
"""Puts values into their places."""

TEXT = b"text"
"""The name of the place of an answer's text in its body."""

_is_place = re.compile(rb"\0(\w+)\0")


def place(name: bytes) -> bytes:
    """What stands for a value."""
    return b"\0%b\0" % name


def filler(form: bytes, names: Sequence[bytes]) -> Fill:
    """What puts values of these names, in their order, into their places: as `%` would, which looks
    for the places each time.
    """
    parts = _is_place.split(form)
    fixed, chosen = (*parts[::2], b""), list[int]()
    for number, name in enumerate(parts[1::2]):
        chosen += len(names) + number, names.index(name)
    # With an empty one at the end there are always two, as one alone is picked without a tuple.
    pick, join = itemgetter(*chosen, len(names) + len(fixed) - 2, -1), b"".join
    return lambda values: join(pick(values + fixed))


# Limits below which an answer is not read by a form: all but its text is within them.
LEAST_ANSWER, LEAST_EVENT = 128 * 1024, 16 * 1024
# What the general way counts of an answer besides its text is less.
RESERVE = 64 * 1024


class EventForm(NamedTuple):
    """One event before or behind those that are but text.

    Attributes:
        shared: where it begins as an event with text does, how much of that one's beginning it
            does not share; all that names the answer is in what it shares. Else -1.
        match: finds the event, or the rest of it, at a place, its values as groups.
        is_named: the first of them are what names the answer.
        is_chunk: whether it is a chunk of the answer; else it says that nothing more follows.
        has_ended: whether every choice has ended behind it.
    """

    shared: int
    match: _Match
    is_named: bool
    is_chunk: bool
    has_ended: bool


class AnswerForm(msgspec.Struct, frozen=True, kw_only=True):
    """What all answers of a gateway share.

    Attributes:
        events: those before the first text, of which there are `opening`, and those behind the
            last one.
        before: gives the beginning of an event with text, of the values that name the answer.
        after: what is behind the letters of it.
        body: gives the body, of all values, in the order in which they come, and the text.
        naming: how many of the values name the answer; they are in every event with a chunk.
        read_chunk: gives the typed chunk of one of `events` out of its data.
        typed: gives that of the value of an event with text.
    """

    events: tuple[EventForm, ...]
    opening: int
    before: Fill
    after: bytes
    body: Fill
    naming: int
    read_chunk: Callable[[bytes], Chunk]
    typed: Typed


class FormReading:
    """Reads one answer by a form.

    Args:
        most_answer, most_event: bytes of them, at least `LEAST_ANSWER` and `LEAST_EVENT`.

    Attributes:
        run: what reads the events with text, once those before have come.
        opening, closing: the events that were read before these and behind them.
        has_ended: whether every choice has ended.
        complete: whether the server said that nothing more follows.
    """

    __slots__ = (
        "_form",
        "_most_event",
        "_named",
        "_next",
        "_said",
        "_text",
        "closing",
        "complete",
        "has_ended",
        "opening",
        "run",
    )

    def __init__(self, form: AnswerForm, most_answer: int, most_event: int) -> None:
        self._form = form
        self._most_event = most_event
        # With so much less left, an answer at its limit is left to the general way.
        self._text = GrowingText(Allowance(most_answer - RESERVE))
        self._named: tuple[bytes, ...] = ()
        self._said: tuple[bytes, ...] = ()
        self._next = 0
        self.run: Repeats | None = None
        self.opening: list[bytes] = []
        self.closing: list[bytes] = []
        self.has_ended = self.complete = False

    @property
    def chunks(self) -> int:
        texts = 0 if self.run is None else self.run.count
        return len(self.opening) + texts + len(self.closing) - self.complete

    @property
    def letters(self) -> bytearray:
        """JSON of the text, without its last quote."""
        return self._text.letters

    def take(self, data: bytes, put: Put | None) -> int:
        """How much of `data`, which begins an event, was of the form. It is read now."""
        if self.complete:
            return 0
        form, run, number, at, size = self._form, self.run, self._next, 0, len(data)
        said = self.opening if run is None else self.closing
        for shared, match, is_named, is_chunk, has_ended in form.events[number:]:
            if number == form.opening:
                if run is None:
                    run, said = self._begin_run(), self.closing
                at += run.take(data[at:] if at else data, put)
                if at == size or not run.count:
                    break
            start = at
            if shared >= 0 and run is not None:
                before = run.frame[0]
                start += len(before) - shared
                if not data.startswith(before[:-shared] if shared else before, at):
                    break
            found = match(data, start)
            if found is None:
                break
            values = found.groups()
            if values and not self._agrees(is_named, values):
                break
            before_it, at = at, found.end()
            said.append(data[before_it:at])
            number += 1
            self.has_ended = has_ended
            if not is_chunk:
                self.complete = True
            elif put is not None:
                put((form.read_chunk(data[before_it + len(_FIELD) : at]),), 1)
            if at == size:
                break
        self._next = number
        return at

    @property
    def is_amid_texts(self) -> bool:
        return self._next == self._form.opening

    def body(self) -> bytes:
        """The JSON of the whole answer, once it is complete."""
        return self._form.body((*self._named, *self._said, bytes(self.letters[1:])))

    def _agrees(self, is_named: bool, values: tuple[bytes, ...]) -> bool:
        """Whether an event is of this answer; its other values are kept."""
        if is_named:
            naming = self._form.naming
            if not self._named:
                self._named = values[:naming]
            elif values[:naming] != self._named:
                return False
            values = values[naming:]
        if values:
            self._said += values
        return True

    def _begin_run(self) -> Repeats:
        form = self._form
        before = form.before(self._named)
        run = self.run = Repeats(before, form.after, self._text, form.typed, self._most_event)
        return run
