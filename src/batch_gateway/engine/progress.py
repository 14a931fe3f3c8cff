"""What a run counts while it goes on, and what it came to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from batch_gateway.engine.byte_budget import ByteBudget
from batch_gateway.engine.results import Outcome
from batch_gateway.errors import ErrorCategory

__all__ = ["Cause", "RunStats", "RunSummary"]

_MAX_CAUSES = 5
# Messages that name a request are all different; past this many they are not told apart.
_MAX_DISTINCT_MESSAGES = 1_000


@dataclass(slots=True)
class Cause:
    """A reason why lines failed, by the first line that met it.

    `count` is how many lines of this run failed with the same message.
    """

    line_number: int
    custom_id: str
    category: ErrorCategory
    status_code: int | None
    message: str
    count: int = 1


@dataclass(slots=True)
class RunStats:
    """Live counters of one run, for whoever shows progress. Only the run writes them.

    Attributes:
        total: lines of the input.
        done_before: lines that are not sent in this run because of earlier results.
        succeeded, failed: lines recorded in this run.
        in_flight: lines being sent, retries and their waits included.
        retries: sendings after the first; of lines sent together each has its share.
        input_tokens, output_tokens: of this run's answers, as the gateway counted them.
        from_cache: lines answered from the cache, or by an identical request under way.
        coalesced: lines answered together with others; `joint_requests` is how many requests
            they were sent as.
        cut_off: answers that are not whole, by reason: length, content_filter or incomplete.
        streamed: answers whose time to the first token is known; `first_token_seconds` is the sum.
        rooms: how many bytes each gateway's lines may take, and who waits for room.
        started: monotonic seconds when the run began.
        stopping: nothing new is sent any more.
        worth_retrying: failures of which another run may make answers.
        most_failures: so many lines may fail; one more sets `too_many_failed`.
    """

    total: int = 0
    done_before: int = 0
    succeeded: int = 0
    failed: int = 0
    in_flight: int = 0
    from_cache: int = 0
    coalesced: int = 0
    joint_requests: float = 0.0
    retries: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    streamed: int = 0
    first_token_seconds: float = 0.0
    rooms: Sequence[ByteBudget] = ()
    started: float = 0.0
    stopping: bool = False
    worth_retrying: int = 0
    most_failures: float = float("inf")
    too_many_failed: asyncio.Event = field(default_factory=asyncio.Event)
    by_category: Counter[ErrorCategory] = field(default_factory=Counter[ErrorCategory])
    cut_off: Counter[str] = field(default_factory=Counter[str])
    causes: dict[str, Cause] = field(default_factory=dict[str, Cause])

    def count(self, outcome: Outcome, line_number: int) -> None:
        """One more line recorded; only of a failure is the line number looked at."""
        if outcome.attempts > 1:
            self.retries += (outcome.attempts - 1) / outcome.coalesced
        if outcome.category is None:
            self.succeeded += 1
            self.from_cache += outcome.from_cache
            if outcome.coalesced > 1:
                self.coalesced += 1
                self.joint_requests += 1 / outcome.coalesced
            self.input_tokens += outcome.input_tokens
            self.output_tokens += outcome.output_tokens
            if outcome.cut_off is not None:
                self.cut_off[outcome.cut_off] += 1
            if outcome.time_to_first_token is not None:
                self.streamed += 1
                self.first_token_seconds += outcome.time_to_first_token
            return
        self.failed += 1
        self.worth_retrying += outcome.is_retryable
        if self.failed > self.most_failures:
            self.too_many_failed.set()
        self.by_category[outcome.category] += 1
        known = self.causes.get(outcome.message)
        if known is not None:
            known.count += 1
        elif len(self.causes) < _MAX_DISTINCT_MESSAGES:
            self.causes[outcome.message] = Cause(
                line_number,
                outcome.custom_id,
                outcome.category,
                outcome.status_code,
                outcome.message,
            )

    @property
    def is_short_of_room(self) -> bool:
        """Whether lines wait for room in memory just now."""
        return any(room.is_short for room in self.rooms)

    @property
    def mean_time_to_first_token(self) -> float | None:
        return self.first_token_seconds / self.streamed if self.streamed else None

    def chief_causes(self) -> tuple[Cause, ...]:
        """The most frequent ones, and of equals those that were met first."""
        return tuple(sorted(self.causes.values(), key=lambda cause: -cause.count))[:_MAX_CAUSES]


class RunSummary(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended.

    Attributes:
        total: lines of the input; always `succeeded + failed + left_to_send`.
        succeeded, failed: lines with a result, those of earlier runs included.
        left_to_send: lines without any result.
        still_to_retry: with `retry_failed`, failed lines that have no new result yet.
        finished_now: lines recorded in this run.
        by_category: failures of this run.
        lines_held, held_seconds: lines that waited for room in memory, and for how long there were
            such lines.
        cut_off: answers of this run that are not whole, by reason.
        causes: the most frequent reasons of this run, each with its first line.
        input_tokens, output_tokens, retries, seconds: of this run.
        from_cache, coalesced, joint_requests: of this run; see `RunStats`.
        streamed: answers of this run that came as streams.
        time_to_first_token: their mean, in seconds, or None without any.
        gateway_problem: why gateways were given up, or None.
        gateway_answers: some gateway answered as one does, be it with a refusal of a request.
        maybe_the_lines: something was given up for failures that may be the lines' own.
        unknown_models: those that a gateway says it does not have.
        journal_problem: why results could not be recorded, or the input not be read; or None.
        interrupted: it was asked to stop before everything was done.
        deadline_passed: its own deadline stopped it.
        deadline_words: what a gateway said that asked for more time than was left.
        worth_retrying: failures of this run of which another one may make answers.
        too_many_failed: more lines failed than `max_failures` allows.
    """

    total: int
    succeeded: int
    failed: int
    left_to_send: int
    still_to_retry: int = 0
    finished_now: int = 0
    from_cache: int = 0
    coalesced: int = 0
    joint_requests: int = 0
    by_category: Mapping[ErrorCategory, int] = msgspec.field(
        default_factory=dict[ErrorCategory, int]
    )
    lines_held: int = 0
    held_seconds: float = 0.0
    cut_off: Mapping[str, int] = msgspec.field(default_factory=dict[str, int])
    causes: Sequence[Cause] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    streamed: int = 0
    time_to_first_token: float | None = None
    retries: int = 0
    seconds: float = 0.0
    gateway_problem: str | None = None
    gateway_answers: bool = False
    maybe_the_lines: bool = False
    unknown_models: tuple[str, ...] = ()
    journal_problem: str | None = None
    interrupted: bool = False
    deadline_passed: bool = False
    deadline_words: str = ""
    worth_retrying: int = 0
    too_many_failed: bool = False

    @property
    def requests_per_second(self) -> float:
        return self.finished_now / self.seconds if self.seconds > 0 else 0.0
