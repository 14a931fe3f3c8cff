"""The life of a batch, as a table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.service.statuses import (
    ENDED,
    SHOWN,
    TRANSITIONS,
    BatchEvent,
    BatchStatus,
    following,
)

events = st.lists(st.sampled_from(BatchEvent), max_size=30)


def life(happened: list[BatchEvent]) -> list[BatchStatus]:
    """The statuses that a new batch goes through, refused events left out."""
    statuses = [BatchStatus.VALIDATING]
    for event in happened:
        after = following(statuses[-1], event)
        if after is not None and after is not statuses[-1]:
            statuses.append(after)
    return statuses


def test_a_good_batch_runs_through_to_its_end() -> None:
    assert life([BatchEvent.VALID, BatchEvent.ALL_DONE, BatchEvent.WRITTEN]) == [
        BatchStatus.VALIDATING,
        BatchStatus.IN_PROGRESS,
        BatchStatus.FINALIZING,
        BatchStatus.COMPLETED,
    ]


@given(events)
def test_no_status_comes_twice_unless_results_were_lost(happened: list[BatchEvent]) -> None:
    statuses = life([event for event in happened if event is not BatchEvent.LOST])
    assert len(statuses) == len(set(statuses))


@given(events)
def test_a_batch_that_has_ended_stays_as_it_is(happened: list[BatchEvent]) -> None:
    statuses = life(happened)
    assert ENDED.isdisjoint(statuses[:-1])


@given(events)
def test_only_a_batch_that_was_found_good_sends_requests(happened: list[BatchEvent]) -> None:
    statuses = life(happened)
    if not {BatchStatus.FAILED, BatchStatus.VALIDATING} & {statuses[-1]}:
        early = statuses[1] in {BatchStatus.CANCELLED, BatchStatus.EXPIRED}
        assert early or statuses[1] is BatchStatus.IN_PROGRESS


@given(events)
def test_cancelling_a_second_time_is_never_refused(happened: list[BatchEvent]) -> None:
    status = life(happened)[-1]
    after = following(status, BatchEvent.CANCEL)
    if after is not None:
        assert following(after, BatchEvent.CANCEL) is after


@given(events)
def test_from_everywhere_there_is_a_way_to_an_end(happened: list[BatchEvent]) -> None:
    status = life(happened)[-1]
    for event in (BatchEvent.VALID, BatchEvent.ALL_DONE, BatchEvent.WRITTEN):
        status = following(status, event) or status
    assert status in ENDED


@given(events)
def test_whatever_cannot_go_on_can_be_given_up(happened: list[BatchEvent]) -> None:
    status = life(happened)[-1]
    if status not in ENDED:
        given_up = following(status, BatchEvent.GIVE_UP)
        assert given_up in {BatchStatus.FAILING, BatchStatus.FAILED}


def test_what_cannot_be_cancelled_is_what_is_finalizing_or_over() -> None:
    refused = {status for status in BatchStatus if following(status, BatchEvent.CANCEL) is None}
    assert refused == {
        BatchStatus.FINALIZING,
        BatchStatus.COMPLETED,
        BatchStatus.FAILED,
        BatchStatus.EXPIRED,
    }


def test_users_see_only_the_statuses_that_openai_has() -> None:
    assert set(SHOWN) == set(TRANSITIONS) == set(BatchStatus)
    assert set(SHOWN.values()) == {
        *("validating", "failed", "in_progress", "finalizing", "completed"),
        *("expired", "cancelling", "cancelled"),
    }
