"""What clients do, as log records: which request, where, how it ended. Never what it said.

Each record's message says what happened; the details are in its `fields` attribute, a mapping,
for formatters that know them. Bodies, headers and the words of a gateway are left out: they may
hold prompts and secrets.
"""

from __future__ import annotations

import logging
from typing import Any

from batch_gateway.client.interfaces.instrumentation import (
    BreakerChanged,
    CacheLookedUp,
    Coalesced,
    LimitChanged,
    Observer,
    RateLimitWaited,
    RequestFinished,
    RequestStarted,
    RetryScheduled,
)

__all__ = ["RequestLog"]


class RequestLog(Observer):
    """An observer that logs.

    WARNING: a request that failed, a circuit breaker that opened. INFO: requests that ended
    otherwise, retries, the breaker's other changes, another reason for the concurrency limit.
    DEBUG: everything else.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("batch_gateway.requests")

    def request_started(self, event: RequestStarted) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, "request started", **_request(event))

    def request_finished(self, event: RequestFinished) -> None:
        level = logging.WARNING if event.error is not None else logging.INFO
        if not self._logger.isEnabledFor(level):
            return
        fields = {**_request(event.started), "outcome": event.outcome}
        if event.error is not None:
            fields |= {"code": event.code, "status": event.error.status_code}
        elif event.response is not None:
            fields["status"] = event.response.status_code
        fields |= {"attempts": event.attempts, "duration": round(event.duration, 6)}
        if event.time_to_first_token is not None:
            fields["time_to_first_token"] = round(event.time_to_first_token, 6)
        usage = event.usage
        if usage is not None:
            fields |= {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
        message = "request failed" if event.error is not None else "request finished"
        self._log(level, message, **fields)

    def retry_scheduled(self, event: RetryScheduled) -> None:
        self._log(
            logging.INFO,
            "retry scheduled",
            gateway=event.gateway,
            request_id=event.request_id,
            model=event.model,
            endpoint=event.endpoint,
            attempt=event.attempt,
            reason=event.reason,
            status=event.error.status_code,
            delay=round(event.delay, 6),
        )

    def breaker_changed(self, event: BreakerChanged) -> None:
        level = logging.WARNING if event.state == "open" else logging.INFO
        self._log(level, "circuit breaker changed", gateway=event.gateway, state=event.state)

    def limit_changed(self, event: LimitChanged) -> None:
        level = logging.INFO if event.reason_changed else logging.DEBUG
        if not self._logger.isEnabledFor(level):
            return
        fields: dict[str, Any] = {"gateway": event.gateway, "limit": event.limit}
        if event.why is not None:
            fields["reason"] = event.why.reason.value
            if event.why.figure:
                fields["figure"] = round(event.why.figure, 3)
            fields["why"] = event.why.sentence(event.limit)
        self._log(level, "concurrency limit changed", **fields)

    def cache_looked_up(self, event: CacheLookedUp) -> None:
        # For every request, and seldom wanted.
        if self._logger.isEnabledFor(logging.DEBUG):
            self._log(logging.DEBUG, "cache looked up", gateway=event.gateway, result=event.result)

    def coalesced(self, event: Coalesced) -> None:
        self._log(logging.DEBUG, "requests coalesced", gateway=event.gateway, size=event.size)

    def rate_limit_waited(self, event: RateLimitWaited) -> None:
        self._log(
            logging.DEBUG,
            "rate limit waited",
            gateway=event.gateway,
            seconds=round(event.seconds, 6),
        )

    def _log(self, level: int, message: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, message, extra={"fields": fields})


def _request(event: RequestStarted) -> dict[str, Any]:
    return {
        "gateway": event.gateway,
        "request_id": event.request_id,
        "model": event.model,
        "endpoint": event.endpoint,
    }
