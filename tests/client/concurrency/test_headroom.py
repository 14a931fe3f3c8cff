"""Room that is left for others, and how it is taken back."""

from __future__ import annotations

import pytest

from batch_gateway.client.concurrency.headroom import Headroom

FORGOTTEN = 10_000.0


@pytest.mark.parametrize("used", [1, 2, 3, 50, 500])
def test_room_that_nobody_needs_any_more_is_taken_back_step_by_step(used: int) -> None:
    headroom = Headroom()
    headroom.waited(0.95, now=0.0)
    assert headroom.cap(used, now=1.0) == pytest.approx(0.95)
    cap = headroom.cap(used, now=FORGOTTEN)
    # At least one more, or so few would never become more; and no leap.
    assert used + 1 <= cap <= max(used + 1, 1.1 * used)
