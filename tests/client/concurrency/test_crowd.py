"""What is known of others before any round was counted whose answers were streamed."""

from __future__ import annotations

from batch_gateway.client.concurrency.crowd import Crowd
from batch_gateway.concurrency.rounds import Reading


def test_others_may_become_known_before_anything_is_known_to_have_fitted() -> None:
    crowd = Crowd()
    crowd.saturated()
    latencies = [1.0] * 3 + [1.5] * 3 + [1.0] * 3
    for second, latency in enumerate(latencies):
        crowd.block(latency, 16.0, float(second))
    now = float(len(latencies))
    assert crowd.known(now)

    crowd.look(Reading(now, 16.0, 1.0, 32.0, 0.03, 0.01), now)

    assert 0 < crowd.cap(16.0, now) <= 16
