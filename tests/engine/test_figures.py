"""Figures of lines: counted in any order, added in any order, stored and read again."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from batch_gateway.engine.figures import Figures
from batch_gateway.engine.results import Outcome
from batch_gateway.errors import ErrorCategory
from batch_gateway.wire.usage import Usage, parse_usage

# Sums of such are exact, so that any order gives the same.
SECONDS = st.integers(0, 10_000).map(lambda number: number / 64)
COUNTS = st.integers(0, 1_000)
JOINED = st.integers(1, 100)

successes = st.builds(
    Outcome,
    index=st.just(0),
    custom_id=st.just("ok"),
    line=st.just(b"{}"),
    attempts=st.integers(0, 4),
    usage=st.none() | st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS),
    from_cache=st.booleans(),
    coalesced=JOINED,
    time_to_first_token=st.none() | SECONDS,
    cut_off=st.sampled_from([None, "length", "incomplete"]),
)
failures = st.builds(
    Outcome,
    index=st.just(0),
    custom_id=st.sampled_from(["a", "b"]),
    line=st.just(b"{}"),
    attempts=st.integers(0, 4),
    coalesced=JOINED,
    category=st.sampled_from(ErrorCategory),
    status_code=st.sampled_from([None, 400, 503]),
    message=st.sampled_from(["busy", "wrong", "gone"]),
    is_retryable=st.booleans(),
)
lines = st.lists(st.tuples(successes | failures, st.integers(1, 9)), max_size=20)


def counted(ended: list[tuple[Outcome, int]]) -> Figures:
    figures = Figures()
    for outcome, line_number in ended:
        figures.count(outcome, line_number)
    return figures


def through_json(figures: Figures) -> Figures:
    return msgspec.json.decode(msgspec.json.encode(figures), type=Figures)


def through_msgpack(figures: Figures) -> Figures:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(figures), type=Figures)


@st.composite
def waits(draw: st.DrawFn) -> Figures:
    """Lines, and what they waited for."""
    return replace(
        counted(draw(lines)),
        lines_held=draw(COUNTS),
        held_seconds=draw(SECONDS),
        outages=draw(COUNTS),
        outage_seconds=draw(SECONDS),
        rate_limited=draw(COUNTS),
        rate_limit_seconds=draw(SECONDS),
    )


@given(waits(), waits(), waits())
def test_figures_add_up_in_any_order_and_those_of_nothing_change_none(
    first: Figures, second: Figures, third: Figures
) -> None:
    assert first + second == second + first
    assert (first + second) + third == first + (second + third)
    assert first + Figures() == Figures() + first == first
    assert sum([first, second, third], Figures()) == first + second + third


@given(lines, st.randoms(use_true_random=False), st.integers(0, 20))
def test_the_figures_of_shards_are_those_of_the_whole_in_whichever_order_lines_ended(
    ended: list[tuple[Outcome, int]], random: object, cut: int
) -> None:
    shuffled = list(ended)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert counted(shuffled[:cut]) + counted(shuffled[cut:]) == counted(ended)


@given(waits(), waits())
def test_figures_can_be_stored_and_added_up_afterwards(first: Figures, second: Figures) -> None:
    for stored in (through_json, through_msgpack):
        assert stored(first) == first
        assert stored(first) + stored(second) == stored(first + second) == first + second


@given(waits())
def test_what_a_later_version_adds_is_left_out(figures: Figures) -> None:
    later = msgspec.to_builtins(figures) | {"energy": {"joules": 7}, "by_hour": [1, 2]}
    later["usage"]["images"] = 3
    assert msgspec.json.decode(msgspec.json.encode(later), type=Figures) == figures


def test_figures_of_an_earlier_version_lack_nothing() -> None:
    assert msgspec.json.decode(b'{"succeeded":3}', type=Figures) == Figures(succeeded=3)


def test_adding_leaves_the_parts_alone() -> None:
    failure = Outcome(0, "a", b"", 1, category=ErrorCategory.UNKNOWN, message="gone")
    part = counted([(failure, 1)])
    both = part + Figures()
    part.count(failure, 2)
    assert (both.failed, both.causes["gone"].count, both.by_category["UNKNOWN"]) == (1, 1, 1)


ANY_TEXT = st.text(st.characters(categories=["L", "N", "P", "Cc", "Cs", "So"]))


@given(ANY_TEXT, ANY_TEXT)
def test_whatever_words_a_failure_has_can_be_stored(message: str, custom_id: str) -> None:
    failure = Outcome(0, custom_id, b"", 1, category=ErrorCategory.UNKNOWN, message=message)
    figures = counted([(failure, 1), (failure, 2)])
    assert through_json(figures) == through_msgpack(figures) == figures
    assert [cause.count for cause in figures.chief_causes()] == [2]


def test_as_many_tokens_as_gateways_can_claim_can_be_stored() -> None:
    claimed = parse_usage(b'{"usage":{"prompt_tokens":4294967296,"completion_tokens":1e30}}')
    assert parse_usage(b'{"usage":{"prompt_tokens":4294967297}}') == claimed is None
    usage = parse_usage(b'{"usage":{"prompt_tokens":4294967296}}')
    assert usage is not None
    answers = 1_000_000_000
    huge = Figures(usage=Usage(usage.input_tokens * answers, 0))
    assert through_json(huge) == through_msgpack(huge) == huge


def test_causes_have_a_bound_and_the_rarest_are_dropped() -> None:
    def failed(first: int) -> Figures:
        often = Outcome(0, "a", b"", 1, category=ErrorCategory.UNKNOWN, message="often")
        figures = counted([(often, 5), (often, 6)])
        for number in range(first, first + 900):
            figures.count(
                Outcome(0, "a", b"", 1, category=ErrorCategory.UNKNOWN, message=f"no. {number}"),
                number,
            )
        return figures

    both = failed(0) + failed(900)
    assert len(both.causes) == 1_000
    assert both.causes["often"].count == 4
    assert both.failed == both.by_category["UNKNOWN"] == 1_804
