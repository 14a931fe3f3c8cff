"""What a process believes of its lease when nobody tells it."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.service.fence import LOOKS_A_LEASE, Fence, Standing, boot_time

LEASE = 30.0
STEP = LEASE / LOOKS_A_LEASE


def test_work_is_ours_while_the_database_confirms_it() -> None:
    fence = Fence(LEASE, 0.0)
    for step in range(1, 300):
        now = step * STEP
        if step % 5 == 0:
            fence.confirmed(now)
        assert fence.look(now) is Standing.OURS


def test_work_is_in_doubt_while_the_database_is_not_heard_for_longer_than_a_lease() -> None:
    fence = Fence(LEASE, 0.0)
    found = [fence.look(step * STEP) for step in range(1, 40)]
    first = found.index(Standing.DOUBTFUL)
    assert set(found[:first]) == {Standing.OURS}
    assert set(found[first:]) == {Standing.DOUBTFUL}
    fence.confirmed(40 * STEP)
    assert fence.look(41 * STEP) is Standing.OURS


def test_who_stood_still_past_the_lease_is_told_so_at_the_first_look() -> None:
    fence = Fence(LEASE, 0.0)
    assert fence.look(STEP) is Standing.OURS
    assert fence.look(STEP + LEASE) is Standing.SLEPT


def test_a_short_standstill_costs_nothing() -> None:
    fence = Fence(LEASE, 0.0)
    fence.confirmed(STEP)
    assert fence.look(LEASE / 2) is Standing.OURS


@given(
    events=st.lists(
        st.tuples(st.floats(0.01, 60.0), st.booleans(), st.floats(0.0, 2.0)), max_size=60
    )
)
def test_nobody_is_sure_when_the_database_may_have_given_the_work_away(
    events: list[tuple[float, bool, float]],
) -> None:
    # The database counts the lease from when it hears, which is after the sign of life was sent.
    fence, now, heard = Fence(LEASE, 0.0), 0.0, 0.0
    for passed, confirms, on_the_way in events:
        now += passed
        if fence.look(now) is Standing.OURS:
            assert now < heard + LEASE
        if confirms:
            fence.confirmed(now)
            heard = now + on_the_way
            now += on_the_way


def test_the_clock_runs_on() -> None:
    before = boot_time()
    assert before <= boot_time() <= before + 60
    assert boot_time() >= time.monotonic() - 1
