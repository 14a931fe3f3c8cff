"""What lines came to: the figures of a shard, of a run or of many, to be stored and added up."""

from __future__ import annotations

from typing import Any, Self, cast

import msgspec

from batch_gateway.engine.results import Outcome
from batch_gateway.wire.usage import Usage

__all__ = ["Additive", "Cause", "Example", "Examples", "Figures"]

_MAX_CAUSES = 5
# Messages that name a request are all different; past this many they are not told apart.
_MAX_DISTINCT_MESSAGES = 1_000
_MOST_EXAMPLES = 3
_LONGEST_NAME = 200


class Additive(msgspec.Struct):
    """Figures that are added field by field; those of nothing change none.

    Fields are numbers, whatever else can be added, and dicts of such, which are added key by key.
    """

    def __add__(self, other: Self) -> Self:
        names = self.__struct_fields__
        return type(self)(**{n: _added(getattr(self, n), getattr(other, n)) for n in names})


def _added(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        first, second = cast("dict[Any, Any]", one), cast("dict[Any, Any]", other)
        in_both = first.keys() & second.keys()
        return first | second | {key: _added(first[key], second[key]) for key in in_both}
    return one + other


def _storable(text: str) -> str:
    """`text` with "?" for halves of surrogate pairs, which JSON may hold and UTF-8 may not."""
    return text if text.isascii() else text.encode(errors="replace").decode()


class Example(msgspec.Struct, frozen=True, order=True, rename={"line_number": "line"}):
    """A line that stands for others, with the beginning of its `custom_id`."""

    line_number: int
    custom_id: str


class Examples(msgspec.Struct, frozen=True):
    """The first three of some lines."""

    lines: tuple[Example, ...] = ()

    @classmethod
    def of(cls, line_number: int, custom_id: str) -> Examples:
        return cls((Example(line_number, _storable(custom_id[:_LONGEST_NAME])),))

    def __add__(self, other: Examples) -> Examples:
        return Examples(tuple(sorted((*self.lines, *other.lines))[:_MOST_EXAMPLES]))


class Cause(msgspec.Struct, frozen=True, rename={"line_number": "line"}):
    """A reason why lines failed: how many failed with the same message, and the first of them.

    `examples` are the first three.
    """

    line_number: int
    custom_id: str
    category: str
    status_code: int | None
    message: str
    count: int = 1
    examples: tuple[Example, ...] = ()

    def __add__(self, other: Cause) -> Cause:
        first = min(self, other, key=_place)
        both = Examples(self.examples) + Examples(other.examples)
        return msgspec.structs.replace(first, count=self.count + other.count, examples=both.lines)


def _place(cause: Cause) -> tuple[int, str, str, int]:
    return cause.line_number, cause.custom_id, cause.category, cause.status_code or 0


class Figures(Additive):
    """What was counted of lines that have ended, and of what they waited for.

    The figures of two shards or two runs are the sum of theirs: in whichever order they are added,
    and `sum(parts, Figures())` of any number. Two things are not exact there: seconds are as exact
    as floats are; and of more than a thousand distinct messages of failures the rarest are dropped
    from `causes`, though from nothing else. Whatever was counted, msgspec encodes as JSON or
    msgpack, and decodes what a later version has written, without what that one adds.

    Attributes:
        succeeded, failed: lines that were recorded.
        by_category: the failures, by the values of `ErrorCategory`.
        worth_retrying: failures of which another run may make answers.
        causes: reasons of failures by their messages.
        usage: tokens of the answers, as the gateway counted them.
        cut_off: answers that are not whole, by reason: length, content_filter or incomplete.
        cut_off_examples: the first such lines, likewise.
        from_cache: lines answered from the cache, or by an identical request under way.
        joint: lines answered together with others, by how many were sent as one.
        sent_again: sendings after the first, of lines so many of which were sent as one.
        streamed: answers whose time to the first token is known; `first_token_seconds` is the sum.
        lines_held, held_seconds: lines that waited for room in memory, and for how long there were
            such lines.
        outages, outage_seconds: how often a gateway was down for a second or more, and how long
            that was in all.
        rate_limited, rate_limit_seconds: sendings that waited for a limit, and how long in all.
    """

    succeeded: int = 0
    failed: int = 0
    by_category: dict[str, int] = {}
    worth_retrying: int = 0
    causes: dict[str, Cause] = {}
    usage: Usage = Usage()
    cut_off: dict[str, int] = {}
    cut_off_examples: dict[str, Examples] = {}
    from_cache: int = 0
    joint: dict[int, int] = {}
    sent_again: dict[int, int] = {}
    streamed: int = 0
    first_token_seconds: float = 0.0
    lines_held: int = 0
    held_seconds: float = 0.0
    outages: int = 0
    outage_seconds: float = 0.0
    rate_limited: int = 0
    rate_limit_seconds: float = 0.0

    def __post_init__(self) -> None:
        if len(self.causes) > _MAX_DISTINCT_MESSAGES:
            self.causes = {one.message: one for one in self.chief_causes(_MAX_DISTINCT_MESSAGES)}

    def count(self, outcome: Outcome, line_number: int) -> None:
        """One more line recorded; of a whole answer the line number is not looked at."""
        size = outcome.coalesced
        if outcome.attempts > 1:
            self.sent_again[size] = self.sent_again.get(size, 0) + outcome.attempts - 1
        if outcome.category is not None:
            self._count_failure(outcome, outcome.category.value, line_number)
            return
        self.succeeded += 1
        self.from_cache += outcome.from_cache
        if size > 1:
            self.joint[size] = self.joint.get(size, 0) + 1
        if outcome.usage is not None:
            self.usage += outcome.usage
        if (reason := outcome.cut_off) is not None:
            self.cut_off[reason] = self.cut_off.get(reason, 0) + 1
            known = self.cut_off_examples.get(reason, Examples())
            self.cut_off_examples[reason] = known + Examples.of(line_number, outcome.custom_id)
        if outcome.time_to_first_token is not None:
            self.streamed += 1
            self.first_token_seconds += outcome.time_to_first_token

    def _count_failure(self, outcome: Outcome, category: str, line_number: int) -> None:
        self.failed += 1
        self.worth_retrying += outcome.is_retryable
        self.by_category[category] = self.by_category.get(category, 0) + 1
        message, custom_id = _storable(outcome.message), _storable(outcome.custom_id)
        known = self.causes.get(message)
        if known is not None or len(self.causes) < _MAX_DISTINCT_MESSAGES:
            examples = Examples.of(line_number, custom_id).lines
            status = outcome.status_code
            cause = Cause(line_number, custom_id, category, status, message, 1, examples)
            self.causes[message] = cause if known is None else known + cause

    @property
    def finished(self) -> int:
        """Lines that succeeded or failed for good."""
        return self.succeeded + self.failed

    @property
    def retries(self) -> int:
        """Sendings after the first, one for all the lines that were sent as one."""
        return _requests(self.sent_again)

    @property
    def coalesced(self) -> int:
        """Lines answered together with others."""
        return sum(self.joint.values())

    @property
    def joint_requests(self) -> int:
        """How many requests the coalesced lines were sent as."""
        return _requests(self.joint)

    @property
    def mean_time_to_first_token(self) -> float | None:
        """Seconds; None where no answer was streamed."""
        return self.first_token_seconds / self.streamed if self.streamed else None

    def chief_causes(self, most: int = _MAX_CAUSES) -> tuple[Cause, ...]:
        """The most frequent ones, and of equals those whose first line comes first."""
        ranked = sorted(self.causes.values(), key=lambda one: (-one.count, _place(one)))
        return tuple(ranked[:most])


def _requests(lines_by_size: dict[int, int]) -> int:
    """How many requests the lines were; some of those that were sent as one may be elsewhere."""
    return round(sum(lines / size for size, lines in lines_by_size.items()))
