"""What the controller gives as its reason, event by event."""

from __future__ import annotations

import pytest

from batch_gateway import AdaptiveConcurrency
from batch_gateway.concurrency.controller import AdaptiveController
from batch_gateway.concurrency.events import Ended, Outcome, Started
from batch_gateway.concurrency.reasons import Reason

_OK, _REFUSED = Ended(Outcome.OK, 10), Ended(Outcome.REFUSED)


def test_a_single_refusal_lowers_the_limit_and_is_no_reason_yet() -> None:
    controller = AdaptiveController(AdaptiveConcurrency())
    started = [controller.started(0.0) for _ in range(16)]
    controller.finished(started[-1], _REFUSED, 0.001)
    assert controller.limit < 16
    assert controller.why.reason is Reason.CLIMBING


def test_a_limit_at_its_maximum_says_that_no_more_is_allowed() -> None:
    controller = AdaptiveController(AdaptiveConcurrency(initial=8, maximum=8))
    assert (controller.limit, controller.why.reason) == (8, Reason.BOUND)


def test_the_reason_is_one_object_until_it_changes() -> None:
    controller = AdaptiveController(AdaptiveConcurrency())
    why, now = controller.why, 0.0
    for _ in range(20):
        now += 0.001
        controller.finished(controller.started(now), _OK, now + 0.001)
    assert controller.why is why


@pytest.mark.parametrize("seats", [1, 4])
def test_a_full_server_is_said_to_refuse_more_than_it_has_places(seats: int) -> None:
    controller = AdaptiveController(AdaptiveConcurrency())
    now, flying = 0.0, list[tuple[float, Started]]()
    reasons = list[Reason]()
    while now < 60.0:
        now = round(now + 0.01, 2)
        for started in [one for at, one in flying if at <= now]:
            controller.finished(started, _OK, now)
        flying = [(at, one) for at, one in flying if at > now]
        while controller.in_flight < controller.limit and now >= controller.paused_until:
            started = controller.started(now)
            if len(flying) < seats:
                flying.append((now + 1.0, started))
            else:
                controller.finished(started, _REFUSED, now)
        reasons.append(controller.why.reason)
    told = reasons[len(reasons) // 2 :]
    assert told.count(Reason.CEILING) + told.count(Reason.SHUT) > 0.75 * len(told)
    if seats > 1:
        assert controller.why.figure == pytest.approx(seats, abs=1)
