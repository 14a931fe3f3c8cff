"""What is logged of a client's limit, and how loudly."""

from __future__ import annotations

import logging

import pytest

from batch_gateway.client.interfaces.instrumentation import GatewayEvents
from batch_gateway.concurrency.reasons import Reason, Why
from batch_gateway.metrics.request_log import RequestLog


def test_a_new_reason_for_the_limit_is_news_and_each_new_number_is_for_who_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = GatewayEvents("g", [RequestLog()])
    with caplog.at_level(logging.DEBUG, "batch_gateway.requests"):
        events.limit_changed(16, Why(Reason.CLIMBING), True)
        events.limit_changed(32, Why(Reason.CLIMBING))
        events.limit_changed(9, Why(Reason.PACE, 599.8), True)
    assert {record.getMessage() for record in caplog.records} == {"concurrency limit changed"}
    assert [record.levelname for record in caplog.records] == ["INFO", "DEBUG", "INFO"]
    assert caplog.records[-1].__dict__["fields"] == {
        "gateway": "g",
        "limit": 9,
        "reason": "pace",
        "figure": 599.8,
        "why": "refusals do not depend on how many are under way: keeping to 600 a minute",
    }


def test_a_fixed_number_is_logged_without_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    events = GatewayEvents("g", [RequestLog()])
    with caplog.at_level(logging.DEBUG, "batch_gateway.requests"):
        events.limit_changed(16)
    [record] = caplog.records
    assert record.levelname == "DEBUG"
    assert record.__dict__["fields"] == {"gateway": "g", "limit": 16}
