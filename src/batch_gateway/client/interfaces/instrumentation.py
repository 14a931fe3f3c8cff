"""What happens inside a client, as typed events for metrics, traces, logs and progress.

An `Observer` listens. `GatewayEvents` is what the layers of one gateway's client call: each of its
methods says what has happened, keeps what is true just now for whoever asks later, and tells the
observers. A layer gets the bound method as a plain callback, so that it imports nothing from here:

    Admission(clock, breaker=policy, on_breaker=events.breaker_changed)

    events.limit_changed(32, Why(Reason.KNEE))    the concurrency limit is now 32, and why
    events.breaker_changed("open")                closed, open or half_open
    events.retry_scheduled(request, error, 1.5)   sent again in 1.5 s
    events.backed_off(1)                          one more waits for its retry; -1: one fewer
    events.rate_limit_waited(0.2)                 a request was held back for 0.2 s
    events.cache_looked_up("hit")                 hit, miss, or joined to one in flight
    events.coalesced(16)                          16 single requests were sent as one
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.concurrency.reasons import Why
from batch_gateway.concurrency.telling import ConcurrencyStatistics
from batch_gateway.config_checks import require_kind
from batch_gateway.errors import ConfigError, InferenceError
from batch_gateway.wire.refusals import is_eviction
from batch_gateway.wire.usage import Usage

__all__ = [
    "AttemptFinished",
    "BreakerChanged",
    "CacheLookedUp",
    "CacheResult",
    "Coalesced",
    "GatewayEvents",
    "LimitChanged",
    "Observer",
    "RateLimitWaited",
    "RequestFinished",
    "RequestStarted",
    "RetryScheduled",
    "error_code",
    "printable_name",
]

_log = logging.getLogger("batch_gateway.observers")

CacheResult = Literal["hit", "miss", "joined"]

E = TypeVar("E")


class RequestStarted(msgspec.Struct, frozen=True):
    """A request entered the client. The same object is in its `RequestFinished`.

    Attributes:
        gateway: its base URL, or a name that tells apart clients of one URL.
    """

    gateway: str
    request_id: str
    model: str
    endpoint: str


class RequestFinished(msgspec.Struct, frozen=True):
    """A request left the client, once for each that started.

    Attributes:
        outcome: "ok", "cancelled", or the category of the error, such as "RATE_LIMIT".
        duration: seconds from the call of `generate`, all waits included.
        attempts: how many times it was sent; 0 when the cache, or an identical request that was
            under way, gave the answer, and when it was cancelled.
        response, error: at most one of them; both None when the caller cancelled it, or closed the
            client meanwhile.
    """

    started: RequestStarted
    outcome: str
    duration: float
    attempts: int
    response: InferenceResponse | None = None
    error: InferenceError | None = None

    @property
    def code(self) -> str:
        """For an error the cause in one of few words, see `error_code`; else empty."""
        return "" if self.error is None else error_code(self.error)

    @property
    def usage(self) -> Usage | None:
        """Tokens of the answer, read from its body when asked; None if it was not sent for."""
        if self.response is None or not self.attempts:
            return None
        return self.response.usage

    @property
    def time_to_first_token(self) -> float | None:
        """Seconds, of the last attempt; None when the answer was not streamed."""
        return None if self.response is None else self.response.time_to_first_token


class AttemptFinished(msgspec.Struct, frozen=True):
    """A sending of the request `started` ended, so many seconds after it began, however it did."""

    started: RequestStarted
    duration: float


class RetryScheduled(msgspec.Struct, frozen=True):
    """An attempt failed and the request will be sent again.

    Attributes:
        attempt: number of the attempt that failed, from 1.
        reason: why, in one of few words; see `error_code`.
        delay: seconds until it is sent again.
    """

    gateway: str
    request_id: str
    model: str
    endpoint: str
    attempt: int
    reason: str
    delay: float
    error: InferenceError


class LimitChanged(msgspec.Struct, frozen=True):
    """From now on `limit` requests may be under way at the gateway, or for another reason.

    Attributes:
        why: what holds the limit where it is; None where nothing is found out, as with a fixed
            number.
        reason_changed: `why` is another than was told before, and neither flickers nor creeps.
    """

    gateway: str
    limit: int
    why: Why | None = None
    reason_changed: bool = False


class BreakerChanged(msgspec.Struct, frozen=True):
    """The circuit breaker is now "closed", "open" or "half_open"."""

    gateway: str
    state: str


class CacheLookedUp(msgspec.Struct, frozen=True):
    """The cache had the answer, had not, or an identical request was under way already."""

    gateway: str
    result: CacheResult


class Coalesced(msgspec.Struct, frozen=True):
    """`size` single requests were sent as one."""

    gateway: str
    size: int


class RateLimitWaited(msgspec.Struct, frozen=True):
    """A rate limit held a request back for so many `seconds`."""

    gateway: str
    seconds: float


class Observer:
    """Listens to clients: override what is wanted, the rest costs nothing.

    Methods are called on the client's event loop, in order, and must neither block nor wait. One
    observer may listen to many clients. What an observer raises is logged once and otherwise
    ignored: a request never suffers from being watched.
    """

    def attached(self, events: GatewayEvents) -> None:
        """A client was built that will report to this observer.

        The numbers that `events` keeps may be read at any time, from any thread.
        """

    def request_started(self, event: RequestStarted) -> None: ...

    def headers(self, event: RequestStarted) -> Sequence[tuple[str, str]]:
        """Headers to send with every attempt, such as `traceparent`.

        Called after `request_started` in the task that called `generate`.
        """
        return ()

    def request_finished(self, event: RequestFinished) -> None: ...

    def attempt_started(self, event: RequestStarted) -> None:
        """The request goes to the gateway, with its waits for that behind it."""

    def attempt_finished(self, event: AttemptFinished) -> None:
        """An attempt has its answer, or failed; others may follow."""

    def retry_scheduled(self, event: RetryScheduled) -> None: ...

    def limit_changed(self, event: LimitChanged) -> None: ...

    def breaker_changed(self, event: BreakerChanged) -> None: ...

    def cache_looked_up(self, event: CacheLookedUp) -> None: ...

    def coalesced(self, event: Coalesced) -> None: ...

    def rate_limit_waited(self, event: RateLimitWaited) -> None: ...


class GatewayEvents:
    """Everything that is told about one gateway's client; without observers, next to nothing.

    Raises ConfigError for an observer that is none.

    Attributes:
        gateway: the name in every event.
        requests_in_flight: those inside the client, waiting or not, where `requests_are_heard`.
        attempts_in_flight: requests being sent or answered just now.
        backing_off: requests that wait for their retry just now.
        limit: requests that may be under way at the gateway; None while nothing limits them.
        why: what holds the limit where it is; None where nothing is found out.
        concurrency: gives the figures of whatever limits them, and for how long each reason did.
        breaker_state: None without a circuit breaker.
        failed_attempts, last_failure: attempts that failed, and the words of the last one.
        closed: whether the client is.
        attempts_by_model: where attempts are counted by model, if anywhere.
        retry_scheduled, limit_changed, breaker_changed, cache_looked_up, coalesced: the layers
            of a client tell it, and it tells observers; so with the next.
        rate_limit_waited, attempt_failed, backed_off: see before.
    """

    def __init__(self, gateway: str, observers: Sequence[Observer] = ()) -> None:
        require_kind("observers", observers, Sequence[Any])
        for observer in observers:
            # Callers without a type checker do pass other things.
            if not isinstance(observer, Observer):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise ConfigError("observers", f"{observer!r:.80} is not an Observer")
        self.gateway = gateway
        self.requests_in_flight = self.attempts_in_flight = self.backing_off = 0
        self.limit: int | None = None
        self.why: Why | None = None
        self.concurrency: Callable[[], ConcurrencyStatistics] | None = None
        self.breaker_state: str | None = None
        self.attempts_by_model: Any = None
        self.failed_attempts, self.last_failure, self.closed = 0, "", False
        self._observers = tuple(observers)
        self._room_listeners: list[Callable[[], None]] = []
        self._known_failures: set[tuple[int, str]] = set()
        self.request_started = self._teller(Observer.request_started)
        self.request_finished = self._teller(Observer.request_finished)
        self.attempt_started = self._teller(Observer.attempt_started)
        self.attempt_finished = self._teller(Observer.attempt_finished)
        self._retry = self._teller(Observer.retry_scheduled)
        self._limit = self._teller(Observer.limit_changed)
        self._breaker = self._teller(Observer.breaker_changed)
        self._cache = self._teller(Observer.cache_looked_up)
        self._coalesced = self._teller(Observer.coalesced)
        self._rate_limit = self._teller(Observer.rate_limit_waited)
        self._headers = self._listeners(Observer.headers)
        self._teller(Observer.attached)(self)

    @property
    def requests_are_heard(self) -> bool:
        """Whether some observer hears of each request, or may want to know how many there are."""
        wanted = (Observer.request_started, Observer.headers, Observer.request_finished)
        return any(map(self._listeners, (*wanted, Observer.attached)))

    @property
    def attempts_are_heard(self) -> bool:
        """Whether some observer hears of each attempt."""
        return any(map(self._listeners, (Observer.attempt_started, Observer.attempt_finished)))

    def headers(self, event: RequestStarted) -> list[tuple[str, str]]:
        """What observers want sent with every attempt of a request."""
        wanted: list[tuple[str, str]] = []
        for observer, listener in self._headers:
            try:
                wanted.extend(listener(event) or ())
            except Exception:  # noqa: BLE001 - whatever it is, the request goes on
                self._report_failure(observer, "headers")
        return wanted

    def started(self, request: PreparedRequest) -> RequestStarted:
        """What observers are told of a request as it begins."""
        return RequestStarted(self.gateway, request.request_id, request.model, request.endpoint)

    def attempt_begins(self, request: PreparedRequest) -> None:
        """It is sent now."""
        self.attempt_started(self.started(request))

    def attempt_ends(self, request: PreparedRequest, seconds: float) -> None:
        """It was sent so long ago, and that has ended in some way."""
        self.attempt_finished(AttemptFinished(self.started(request), seconds))

    def retry_scheduled(
        self, request: PreparedRequest, error: InferenceError, delay: float
    ) -> None:
        who = self.gateway, request.request_id, request.model, request.endpoint
        self._retry(RetryScheduled(*who, request.attempt, error_code(error), delay, error))

    def backed_off(self, more: int) -> None:
        self.backing_off += more
        self._room_changed()

    def attempt_failed(self, words: str) -> None:
        self.failed_attempts, self.last_failure = self.failed_attempts + 1, words

    def limit_changed(
        self, limit: int, why: Why | None = None, reason_changed: bool = False
    ) -> None:
        is_other, self.limit, self.why = limit != self.limit, limit, why
        self._limit(LimitChanged(self.gateway, limit, why, reason_changed))
        if is_other:
            self._room_changed()

    def when_room_changes(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` when `limit` or `backing_off` is another, until the result is called."""
        self._room_listeners.append(listener)
        return partial(self._room_listeners.remove, listener)

    def _room_changed(self) -> None:
        for listener in tuple(self._room_listeners):
            listener()

    def breaker_changed(self, state: str) -> None:
        self.breaker_state = str(state)
        self._breaker(BreakerChanged(self.gateway, self.breaker_state))

    def cache_looked_up(self, result: CacheResult) -> None:
        self._cache(CacheLookedUp(self.gateway, result))

    def coalesced(self, size: int) -> None:
        self._coalesced(Coalesced(self.gateway, size))

    def rate_limit_waited(self, seconds: float) -> None:
        self._rate_limit(RateLimitWaited(self.gateway, seconds))

    def _listeners(self, method: Callable[..., Any]) -> list[tuple[Observer, Callable[[Any], Any]]]:
        """The observers' own versions of a method."""
        name = method.__name__
        return [
            (observer, getattr(observer, name))
            for observer in self._observers
            if getattr(type(observer), name) is not method
        ]

    def _teller(self, method: Callable[[Any, E], None]) -> Callable[[E], None]:
        listeners = self._listeners(method)

        def tell(event: E) -> None:
            for observer, listener in listeners:
                try:
                    listener(event)
                except Exception:  # noqa: BLE001 - whatever it is, the request goes on
                    self._report_failure(observer, method.__name__)

        return tell if listeners else _tell_nobody

    def _report_failure(self, observer: Observer, method: str) -> None:
        """To be called where what it raised is being handled."""
        failure = (id(observer), method)
        if failure not in self._known_failures:
            self._known_failures.add(failure)
            _log.warning(
                "%s.%s failed; further failures of it are not reported",
                type(observer).__name__,
                method,
                exc_info=True,
            )


def _tell_nobody(event: object) -> None:
    pass


def printable_name(name: str, longest: int) -> str:
    """A name that somebody else made up, such as a model's, fit for a line and for a label."""
    if len(name) > longest:
        name = f"{name[: longest - 1]}…"
    if name.isprintable():
        return name
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in name)


def error_code(error: InferenceError) -> str:
    """The kind of an error in one of few words, never one that the gateway made up."""
    return "evicted" if is_eviction(error.dropped_reason) else type(error).default_code
