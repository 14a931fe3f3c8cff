"""What a simulated gateway saw: every inference request by its X-Request-ID, and the totals."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Any

import msgspec

from batch_gateway.simulator.server_exchange import ReceivedRequest

__all__ = ["Journal", "RequestRecord"]

RECENT_REQUESTS = 100
RECENT_BYTES = 16 * 1024 * 1024


class RequestRecord(msgspec.Struct, gc=False):
    """What became of one X-Request-ID.

    Attributes:
        received: how many times a request with it arrived, whole.
        completed: how many times a right answer was handed over, whole.
        statuses: the status of every answer, in order; 0 for none.
    """

    received: int = 0
    completed: int = 0
    statuses: tuple[int, ...] = ()

    def snapshot(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "received": self.received,
            "completed": self.completed,
            "statuses": list(self.statuses),
        }


class Journal:
    """Counts of inference requests. Other pages, such as /health, are not counted.

    Attributes:
        requests: a `RequestRecord` by X-Request-ID, the newest `limit` of them; "" holds
            requests without one.
        recent: the last hundred requests as they came, headers and body included, or fewer
            when their bodies are more than 16 MiB together.
        received, completed: totals over all requests.
        by_status: answers by HTTP status; 0 counts exchanges that ended without an answer.
        aborted: exchanges that ended before their answer was whole, whoever ended them.
        in_flight, peak_in_flight: requests that wait for their answer, now and at most.
        connections_opened, connections_open: accepted ever, and open now.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.connections_open = 0
        self.in_flight = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything but what is under way."""
        self.requests: OrderedDict[str, RequestRecord] = OrderedDict()
        self.recent: deque[ReceivedRequest] = deque()
        self._recent_bytes = 0
        self.received = 0
        self.completed = 0
        self.aborted = 0
        self.by_status: Counter[int] = Counter()
        self.peak_in_flight = self.in_flight
        self.connections_opened = 0

    def request_received(self, request_id: str, request: ReceivedRequest) -> int:
        """Count an arrival; returns which attempt of its id it is, from 1."""
        self.received += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        self._remember(request)
        record = self._record(request_id)
        record.received += 1
        return record.received

    def request_ended(self, request_id: str, status: int, *, whole: bool, right: bool) -> None:
        """Count the end of an exchange: `whole` if all was sent, `right` if that is an answer."""
        record = self._record(request_id)
        record.statuses += (status,)
        self.in_flight -= 1
        self.by_status[status] += 1
        self.aborted += not whole
        if whole and right and 200 <= status < 300:
            self.completed += 1
            record.completed += 1

    def connection_opened(self) -> None:
        self.connections_opened += 1
        self.connections_open += 1

    def connection_closed(self) -> None:
        self.connections_open -= 1

    def _remember(self, request: ReceivedRequest) -> None:
        self.recent.append(request)
        self._recent_bytes += len(request.body)
        while len(self.recent) > RECENT_REQUESTS or (
            self._recent_bytes > RECENT_BYTES and len(self.recent) > 1
        ):
            self._recent_bytes -= len(self.recent.popleft().body)

    def _record(self, request_id: str) -> RequestRecord:
        record = self.requests.get(request_id)
        if record is None:
            record = self.requests[request_id] = RequestRecord()
            while len(self.requests) > self.limit:
                self.requests.popitem(last=False)
        return record

    def snapshot(self) -> dict[str, Any]:
        """Everything but `recent`, as a JSON-ready copy."""
        return {
            "received": self.received,
            "completed": self.completed,
            "aborted": self.aborted,
            "by_status": {str(status): count for status, count in self.by_status.items()},
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "connections_opened": self.connections_opened,
            "connections_open": self.connections_open,
            "requests": {name: seen.snapshot() for name, seen in self.requests.items()},
        }
