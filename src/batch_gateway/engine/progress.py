"""Where a run stands while it goes on, and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from batch_gateway.durations import format_duration
from batch_gateway.engine.byte_budget import ByteBudget
from batch_gateway.engine.figures import Figures
from batch_gateway.engine.outcome_words import categories_in_words
from batch_gateway.engine.results import Outcome
from batch_gateway.engine.time_left import TimeLeft

__all__ = ["RunOutcome", "RunStats", "RunSummary"]

# An estimate costs milliseconds, and a bar asks ten times a second.
_SAID_FOR = 1.0


def _nothing() -> None:
    """Nothing is sent yet."""


def _is_up() -> bool:
    """Nobody watches the gateways."""
    return False


@dataclass(slots=True)
class RunStats:
    """Where one run stands, for whoever shows progress. Only the run writes it.

    Attributes:
        total: lines of the input.
        done_before: lines that are not sent in this run because of earlier results.
        figures: what this run's lines came to so far.
        rooms: how many bytes each gateway's lines may take, and who waits for room.
        started: monotonic seconds when the run began.
        size: bytes of all lines; None where some had their results before.
        is_down: whether a gateway of its is down just now.
        time_left: what is known of how long lines take.
        expected: what `seconds_left` said last, for who may not ask it, as other threads may not.
        stopping: nothing new is sent any more.
        most_failures: so many lines may fail; one more sets `too_many_failed`.
        cut_off: ends whatever is being sent, before any of it goes a step further.
    """

    total: int = 0
    done_before: int = 0
    figures: Figures = field(default_factory=Figures)
    rooms: Sequence[ByteBudget] = ()
    started: float = 0.0
    size: int | None = None
    is_down: Callable[[], bool] = _is_up
    time_left: TimeLeft = field(default_factory=TimeLeft)
    expected: float | None = None
    stopping: bool = False
    most_failures: float = float("inf")
    too_many_failed: asyncio.Event = field(default_factory=asyncio.Event)
    cut_off: Callable[[], None] = _nothing
    _said: tuple[float, float | None] = (float("-inf"), None)

    def reset(self) -> None:
        """Another run begins, of which nothing is known yet."""
        self.__init__()

    def count(self, outcome: Outcome, line_number: int) -> None:
        """One more line recorded; of a whole answer the line number is not looked at."""
        self.figures.count(outcome, line_number)
        if self.figures.failed > self.most_failures:
            self.too_many_failed.set()

    @property
    def succeeded(self) -> int:
        """Lines of this run that have a response."""
        return self.figures.succeeded

    @property
    def failed(self) -> int:
        """Lines of this run that failed for good."""
        return self.figures.failed

    @property
    def in_flight(self) -> int:
        """Lines being sent, retries and their waits included."""
        return len(self.time_left.under_way)

    @property
    def done(self) -> int:
        """Lines that are finished, those of earlier runs included."""
        return self.done_before + self.figures.finished

    @property
    def left(self) -> int:
        """Lines that are not finished."""
        return self.total - self.done

    def look(self, now: float) -> None:
        """Note how far it is, for `seconds_left`: best once a second."""
        held = self.figures.rate_limit_seconds
        self.time_left.look(self.figures.finished, now, is_down=self.is_down(), held=held)

    def seconds_left(self, now: float) -> float | None:
        """How long the rest takes; None while nobody can know."""
        self.look(now)
        at, left = self._said
        if now - at >= _SAID_FOR:
            at, left = self._said = now, self.time_left.seconds(self.left, self.size)
        is_over = self.is_down() or self.stopping or not self.left
        self.expected = None if left is None or is_over else max(0.0, left - (now - at))
        return self.expected

    @property
    def is_short_of_room(self) -> bool:
        """Whether lines wait for room in memory just now."""
        return any(room.is_short for room in self.rooms)


class RunOutcome(StrEnum):
    """How a run ended. The values are stable and appear in `--json`."""

    COMPLETED = "completed"
    INTERRUPTED = "interrupted"
    DEADLINE = "deadline"
    GATEWAY_UNUSABLE = "gateway_unusable"
    TOO_MANY_FAILED = "too_many_failed"
    NOT_WRITTEN = "not_written"
    INPUT_CHANGED = "input_changed"


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, beside its figures.

    Attributes:
        figures: what the lines of this run came to.
        total: lines of the input; always `succeeded + failed + left_to_send`.
        succeeded, failed: lines with a result, those of earlier runs included.
        left_to_send: lines without any result.
        still_to_retry: with `retry_failed`, failed lines that have no new result yet.
        done_before: lines that were not sent because of earlier results.
        seconds: that this run took.
        gateway_problem: why gateways were given up, or None.
        gateway_answers: some gateway answered as one does, be it with a refusal of a request.
        maybe_the_lines: something was given up for failures that may be the lines' own.
        unknown_models: those that a gateway says it does not have.
        journal_problem: why results could not be recorded, or the input not be read; or None.
        disk_problem: whether that is about recording.
        interrupted: it was asked to stop before everything was done.
        deadline_passed: its own deadline stopped it.
        deadline_words: what a gateway said that asked for more time than was left.
        too_many_failed: more lines failed than `max_failures` allows.
        failed_if: the conditions of `fail_if` that hold, a sentence each.
    """

    figures: Figures = msgspec.field(default_factory=Figures)
    total: int
    succeeded: int
    failed: int
    left_to_send: int
    still_to_retry: int = 0
    done_before: int = 0
    seconds: float = 0.0
    gateway_problem: str | None = None
    gateway_answers: bool = False
    maybe_the_lines: bool = False
    unknown_models: tuple[str, ...] = ()
    journal_problem: str | None = None
    disk_problem: bool = False
    interrupted: bool = False
    deadline_passed: bool = False
    deadline_words: str = ""
    too_many_failed: bool = False
    failed_if: tuple[str, ...] = ()

    @property
    def outcome(self) -> RunOutcome:
        """How the run ended; of several reasons the gravest."""
        if self.journal_problem is not None:
            return RunOutcome.NOT_WRITTEN if self.disk_problem else RunOutcome.INPUT_CHANGED
        if self.interrupted:
            return RunOutcome.INTERRUPTED
        if self.gateway_problem is not None:
            return RunOutcome.GATEWAY_UNUSABLE
        if self.too_many_failed:
            return RunOutcome.TOO_MANY_FAILED
        return RunOutcome.DEADLINE if self.deadline_passed else RunOutcome.COMPLETED

    @property
    def reason(self) -> str:
        """Why it ended early, where there is more to say than the outcome."""
        return self.journal_problem or self.gateway_problem or self.deadline_words

    @property
    def requests_per_second(self) -> float:
        """Lines that this run finished, for each second of it."""
        return self.figures.finished / self.seconds if self.seconds > 0 else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Tokens of this run, those of the input and those generated, for each second of it."""
        return self.figures.usage.total_tokens / self.seconds if self.seconds > 0 else 0.0

    def __str__(self) -> str:
        figures = self.figures
        words = [f"{self.succeeded:,} of {self.total:,} succeeded"]
        if self.failed:
            why = f" ({categories_in_words(figures.by_category)})" if figures.by_category else ""
            words.append(f"{self.failed:,} failed{why}")
        if self.left_to_send:
            words.append(f"{self.left_to_send:,} left to send")
        words.append(f"{self.requests_per_second:,.1f} requests/s")
        text = f"{self.outcome.value} after {format_duration(round(self.seconds, 3))}: "
        more = [*filter(None, [self.reason]), *(f"failed if {one}" for one in self.failed_if)]
        return "\n".join([text + ", ".join(words), *more])
