"""Continuous batching as a pure model: seats, a queue, prefill in chunks, decode in steps.

The engine works in steps, as vLLM's does. One step gives every decoding sequence its next token
and reads up to a chunk of the prompts that were admitted; it lasts

    step(n) = max(time_per_token * (1 + load_growth * (n - 1)), n / tokens_per_second)
              + prompt tokens read / prefill_tokens_per_second

for n sequences in it. Nothing here knows a clock: the caller says what time it is, never going
back, and asks when something will happen next. Steps between two events are taken together, so
the cost grows with the number of requests and not with the tokens or the simulated time.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable
from enum import Enum
from typing import NamedTuple

from batch_gateway.simulator.capacity import JITTER_STEPS, Capacity
from batch_gateway.simulator.waiting import Sequence, SequenceState, WaitingQueue

__all__ = ["Admission", "ContinuousBatch", "Event", "EventKind", "Totals"]


class Admission(Enum):
    """What became of a sequence that was submitted."""

    RUNNING = "it has its seat"
    QUEUED = "it waits for a seat or for room in the KV cache"
    REFUSED = "the queue is full"
    TOO_LARGE = "the KV cache would never hold it"


class EventKind(Enum):
    FIRST_TOKEN = "the prompt is read and the first token is there"  # noqa: S105 - no password
    FINISHED = "the last token is there, or the prompt is read and nothing was to generate"
    EXPIRED = "it waited longer than `queue_ttl`"
    DISPLACED = "a sequence of higher priority took its place in a full queue"


class Event(NamedTuple):
    """Something that happened to a sequence, and when."""

    time: float
    kind: EventKind
    sequence_id: Hashable


class _Stretch(NamedTuple):
    """`steps` steps of the same length, the first of which began at `start`."""

    start: float
    step_time: float
    steps: int
    chunks: tuple[tuple[Sequence, int], ...]

    @property
    def end(self) -> float:
        return self.start + self.steps * self.step_time

    def steps_done(self, now: float) -> int:
        # The tolerance takes back the rounding of start + k * step_time.
        return min(self.steps, int((now - self.start) / self.step_time + 1e-6))


class Totals:
    """Counts since the beginning. submitted = the sum of all others + running + waiting."""

    __slots__ = ("cancelled", "dropped", "finished", "output_tokens", "refused", "submitted")

    def __init__(self) -> None:
        self.submitted = 0
        self.finished = 0
        self.cancelled = 0
        self.refused = 0
        self.dropped = 0
        self.output_tokens = 0


class ContinuousBatch:
    """An engine that runs sequences. Every method takes the time, which must not go back.

    Units are those of `Capacity`, seconds as a rule. Sequence ids are any hashable values, each
    of which may be used again after its end.
    """

    def __init__(self, capacity: Capacity, now: float = 0.0) -> None:
        self.capacity = capacity
        self.totals = Totals()
        self._now = now
        self._steps = 0
        self._stretch: _Stretch | None = None
        self._events: list[Event] = []
        self._live: dict[Hashable, Sequence] = {}
        self._queue = WaitingQueue()
        self._prefilling: deque[Sequence] = deque()
        self._decoding: list[tuple[int, int, Sequence]] = []
        self._decoding_width = 0
        self._running = 0
        self._seats_taken = 0
        self._kv_taken = 0

    # -- what it is doing ------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Requests that have their seats."""
        return self._running

    @property
    def seats_taken(self) -> int:
        """Seats in use: more than `running` where requests are several sequences wide."""
        return self._seats_taken

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def kv_usage(self) -> float:
        """Share of the KV cache that running sequences have reserved; of seats without one."""
        if self.capacity.kv_cache_tokens is None:
            return min(1.0, self._seats_taken / self.capacity.seats)
        return min(1.0, self._kv_taken / self.capacity.kv_cache_tokens)

    def generated(self, sequence_id: Hashable) -> int:
        """Tokens that each sequence of a request has by now; 0 for one that is unknown."""
        sequence = self._live.get(sequence_id)
        if sequence is None or sequence.first_step is None:
            return 0
        return self._generated(sequence)

    def _generated(self, sequence: Sequence) -> int:
        if sequence.first_step is None:
            return 0
        under_way = 0 if self._stretch is None else self._stretch.steps_done(self._now)
        steps = self._steps + under_way - sequence.first_step + 1
        return min(sequence.output_tokens, steps)

    def next_event_time(self) -> float | None:
        """When something will happen if nothing is submitted or cancelled; None for never."""
        expiry = self._queue.next_expiry()
        if self._stretch is None:
            return expiry
        end = self._stretch.end
        return end if expiry is None else min(end, expiry)

    def next_step_time(self) -> float | None:
        """When the present step ends, for callers that follow token by token."""
        if self._stretch is None:
            return None
        done = self._stretch.steps_done(self._now)
        return self._stretch.start + min(done + 1, self._stretch.steps) * self._stretch.step_time

    # -- what can be done to it ------------------------------------------------------------

    def submit(
        self,
        sequence_id: Hashable,
        prompt_tokens: int,
        output_tokens: int,
        now: float,
        *,
        cached_tokens: int = 0,
        width: int = 1,
        priority: int = 0,
    ) -> Admission:
        """A request arrives.

        Args:
            sequence_id: any name that is not under way.
            prompt_tokens: read in prefill, but for `cached_tokens` of them.
            output_tokens: generated for each of `width` sequences.
            now: the time.
            priority: higher goes first in the queue.
        """
        self._advance(now)
        if sequence_id in self._live:
            raise ValueError(f"the sequence {sequence_id!r} is still under way")
        self.totals.submitted += 1
        sequence = Sequence(sequence_id, prompt_tokens, output_tokens, width, priority)
        sequence.prompt_left = max(0, prompt_tokens - cached_tokens)
        limit = self.capacity.kv_cache_tokens
        if limit is not None and sequence.kv_tokens > limit:
            self.totals.refused += 1
            return Admission.TOO_LARGE
        self._enqueue(sequence)
        self._admit()
        if sequence.state is SequenceState.RUNNING:
            return Admission.RUNNING
        return self._keep_queue_within_limit(sequence)

    def cancel(self, sequence_id: Hashable, now: float) -> bool:
        """The client went away: its seats are free at once. False if it was not there."""
        self._advance(now)
        sequence = self._live.get(sequence_id)
        if sequence is None:
            return False
        self.totals.cancelled += 1
        if sequence.state is SequenceState.WAITING:
            self._leave_queue(sequence)
        else:
            self.totals.output_tokens += self._generated(sequence) * sequence.width
            self._leave_batch(sequence)
        self._admit()
        self._cut_stretch()
        return True

    def reconfigure(self, capacity: Capacity, now: float) -> None:
        """Change the capacity. What runs goes on, at the new pace from the next step."""
        self._advance(now)
        self.capacity = capacity
        self._admit()
        self._cut_stretch()

    def advance(self, now: float) -> list[Event]:
        """Everything that happened up to `now`, in order, and was not reported yet."""
        self._advance(now)
        events, self._events = self._events, []
        return events

    # -- time ------------------------------------------------------------------------------

    def _advance(self, now: float) -> None:
        if now < self._now:
            raise ValueError(f"time goes back from {self._now} to {now}")
        while (at := self.next_event_time()) is not None and at <= now:
            self._now = at
            if self._stretch is not None and self._stretch.end <= at:
                self._complete_stretch(self._stretch)
            self._admit()
            self._expire()
            self._begin_stretch()
        self._now = now

    def _complete_stretch(self, stretch: _Stretch) -> None:
        self._stretch = None
        self._steps += stretch.steps
        for sequence, tokens in stretch.chunks:
            if sequence.state is SequenceState.RUNNING:
                self._prefilled(sequence, tokens)
        while self._decoding and self._decoding[0][0] <= self._steps:
            _, _, sequence = heapq.heappop(self._decoding)
            if sequence.state is SequenceState.RUNNING:
                self._finish(sequence)

    def _prefilled(self, sequence: Sequence, tokens: int) -> None:
        sequence.prompt_left -= tokens
        if sequence.prompt_left > 0:
            return
        self._prefilling.remove(sequence)
        sequence.first_step = self._steps
        sequence.finish_step = self._steps + sequence.output_tokens - 1
        self._decoding_width += sequence.width
        heapq.heappush(self._decoding, (sequence.finish_step, sequence.order, sequence))
        if sequence.output_tokens > 0:
            self._events.append(Event(self._now, EventKind.FIRST_TOKEN, sequence.id))

    def _finish(self, sequence: Sequence) -> None:
        self.totals.finished += 1
        self.totals.output_tokens += sequence.output_tokens * sequence.width
        self._leave_batch(sequence)
        self._events.append(Event(self._now, EventKind.FINISHED, sequence.id))

    def _begin_stretch(self) -> None:
        """Start the next steps, if there is anything to run and none under way."""
        if self._stretch is not None or self._running == 0:
            return
        chunks, prompt_tokens, fresh_width = self._next_chunks()
        count = 1 if chunks else self._steps_until_finish()
        if self.capacity.jitter:
            count = min(count, JITTER_STEPS - self._steps % JITTER_STEPS)
        step_time = self.capacity.step_time(
            self._decoding_width + fresh_width, prompt_tokens, self._steps
        )
        self._stretch = _Stretch(self._now, step_time, count, chunks)

    def _next_chunks(self) -> tuple[tuple[tuple[Sequence, int], ...], int, int]:
        """Which prompts the next step reads: (sequence, tokens) pairs, their sum, the width."""
        budget = self.capacity.prefill_chunk_tokens
        chunks: list[tuple[Sequence, int]] = []
        width = 0
        for sequence in self._prefilling:
            tokens = min(budget, sequence.prompt_left)
            if tokens == 0 and sequence.prompt_left:
                break
            chunks.append((sequence, tokens))
            budget -= tokens
            width += sequence.width
        return tuple(chunks), self.capacity.prefill_chunk_tokens - budget, width

    def _steps_until_finish(self) -> int:
        while self._decoding[0][2].state is not SequenceState.RUNNING:
            heapq.heappop(self._decoding)
        return self._decoding[0][0] - self._steps

    def _cut_stretch(self) -> None:
        """End the present stretch with its present step: who runs has changed."""
        stretch = self._stretch
        if stretch is None:
            return
        if self._running == 0:
            self._steps += stretch.steps_done(self._now)
            self._stretch = None
            return
        count = min(stretch.steps, stretch.steps_done(self._now) + 1)
        self._stretch = stretch._replace(steps=count)

    # -- seats and the queue ---------------------------------------------------------------

    def _enqueue(self, sequence: Sequence) -> None:
        self._live[sequence.id] = sequence
        ttl = self.capacity.queue_ttl
        self._queue.push(sequence, None if ttl is None else self._now + ttl)

    def _admit(self) -> None:
        """Give free seats to the head of the queue. Nobody overtakes a head that must wait."""
        admitted = False
        while (head := self._queue.head()) is not None and self._has_room_for(head):
            self._seat(head)
            admitted = True
        if admitted:
            self._cut_stretch()
            self._begin_stretch()

    def _has_room_for(self, sequence: Sequence) -> bool:
        if self._running == 0:
            # Whatever the capacity has become since it was queued, it can run alone.
            return True
        if self._seats_taken + min(sequence.width, self.capacity.seats) > self.capacity.seats:
            return False
        limit = self.capacity.kv_cache_tokens
        return limit is None or self._kv_taken + sequence.kv_tokens <= limit

    def _seat(self, sequence: Sequence) -> None:
        self._queue.remove(sequence, SequenceState.RUNNING)
        sequence.seats = min(sequence.width, self.capacity.seats)
        self._running += 1
        self._seats_taken += sequence.seats
        self._kv_taken += sequence.kv_tokens
        self._prefilling.append(sequence)

    def _leave_batch(self, sequence: Sequence) -> None:
        sequence.state = SequenceState.GONE
        del self._live[sequence.id]
        self._running -= 1
        self._seats_taken -= sequence.seats
        self._kv_taken -= sequence.kv_tokens
        if sequence.first_step is None:
            self._prefilling.remove(sequence)
        else:
            self._decoding_width -= sequence.width

    def _leave_queue(self, sequence: Sequence) -> None:
        self._queue.remove(sequence, SequenceState.GONE)
        del self._live[sequence.id]

    def _keep_queue_within_limit(self, newcomer: Sequence) -> Admission:
        limit = self.capacity.queue_limit
        if limit is None or self.waiting <= limit:
            return Admission.QUEUED
        last = self._queue.last()
        self._leave_queue(last)
        if last is newcomer:
            self.totals.refused += 1
            return Admission.REFUSED
        self.totals.dropped += 1
        self._events.append(Event(self._now, EventKind.DISPLACED, last.id))
        return Admission.QUEUED

    def _expire(self) -> None:
        while (sequence := self._queue.pop_expired(self._now)) is not None:
            del self._live[sequence.id]
            self.totals.dropped += 1
            self._events.append(Event(self._now, EventKind.EXPIRED, sequence.id))
