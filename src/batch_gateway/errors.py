"""Every exception of the package, and the table that gives an HTTP status its category.

BatchGatewayError
├── ConfigError (ValueError)               a setting is wrong; `field` names it
├── InputError (ValueError)                a batch file is wrong; `problems` say where
│   └── EmptyInputError                    there are no requests in it
├── PlanError (ValueError)                 a stored plan is damaged or of another version
├── JournalError                           the output cannot be read, trusted or written
├── FencedError                            somebody else has taken over the work
├── RecordsError                           the service's database cannot be read or written
│   ├── RecordsFullError                   there is no room for more
│   └── RecordsUnavailableError            it does not answer, or lets nobody in
├── StorageError                           a store of files cannot be read or written
│   ├── StorageFullError                   there is no room for more
│   └── NotStoredError                     nothing has that name
├── GatewayUnusableError                   nothing is left to send to; `problems` say why
└── InferenceError                         a request did not succeed; `category` says how
    ├── RateLimitError                     RATE_LIMIT
    ├── ServerError                        SERVER_ERROR
    │   ├── GatewayConnectionError (ConnectionError)
    │   │   ├── StaleConnectionError       the connection was closed before the request was read
    │   │   └── TLSError                   the handshake failed; trying again will not help
    │   ├── RequestTimeoutError (TimeoutError)
    │   │   └── DeadlineExceededError      the request's own deadline passed
    │   └── BadResponseError               truncated, oversized, malformed or not JSON
    ├── InvalidRequestError                INVALID_REQ
    ├── AuthenticationError                AUTH_ERROR
    └── UnknownStatusError                 UNKNOWN
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Self

__all__ = [
    "AuthenticationError",
    "BadResponseError",
    "BatchGatewayError",
    "CircuitOpenError",
    "ConfigError",
    "DeadlineExceededError",
    "EmptyInputError",
    "ErrorCategory",
    "FencedError",
    "GatewayConnectionError",
    "GatewayUnusableError",
    "InferenceError",
    "InputError",
    "InvalidRequestError",
    "JournalError",
    "NotStoredError",
    "PlanError",
    "RateLimitError",
    "RecordsError",
    "RecordsFullError",
    "RecordsUnavailableError",
    "RequestTimeoutError",
    "ServerError",
    "StaleConnectionError",
    "StorageError",
    "StorageFullError",
    "StorageUnavailableError",
    "TLSError",
    "UnknownStatusError",
    "error_class_for_status",
    "is_retryable_status",
    "map_status_code_to_category",
]


class BatchGatewayError(Exception):
    """Base of everything this package raises on purpose."""


class ConfigError(BatchGatewayError, ValueError):
    """A setting has an impossible value. `field` is its name as the user wrote it.

    `problems` hold one sentence each where there are several, as in a file with its lines.
    """

    def __init__(self, field: str, problem: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([f"{field}: {problem}", *problems]))
        self.field = field
        self.problem = problem
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str, tuple[str, ...]]]:
        # An exception is made anew from its `args`, which is the one text here.
        return type(self), (self.field, self.problem, self.problems)


class InputError(BatchGatewayError, ValueError):
    """A batch file cannot be run. `problems` hold one sentence each, with the line number."""

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)


class EmptyInputError(InputError):
    """A batch file has no requests."""


class PlanError(BatchGatewayError, ValueError):
    """A stored plan of a batch cannot be used; one that is made anew can."""


class JournalError(BatchGatewayError):
    """The output or error file cannot be read, belongs to another input, or cannot be written."""


class RecordsError(BatchGatewayError):
    """The service's database cannot be read or written; what was to be written is not there."""


class RecordsFullError(RecordsError):
    """The service's database has no room for more."""


class RecordsUnavailableError(RecordsError):
    """The service's database does not answer, or not as it should: waiting may be the cure."""


class FencedError(BatchGatewayError):
    """Somebody else has taken over the work: whoever did it must stop, and write nothing more."""


class StorageError(BatchGatewayError):
    """A store of files cannot be read or written. The message names the object, not its place."""


class StorageFullError(StorageError):
    """There is no room for more: what was being written is not there, all else is."""


class StorageUnavailableError(StorageError):
    """A store does not answer, or lets nobody in: what it holds may be as good as ever."""


class NotStoredError(StorageError):
    """No object of a store has that name, or none any more."""


class GatewayUnusableError(BatchGatewayError):
    """No gateway of a batch can be reached, or all were given up.

    Attributes:
        message: one sentence.
        problems: what is wrong with each gateway, where there is more to say.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([message, *problems]))
        self.message = message
        self.problems = tuple(problems)

    def __reduce__(self) -> tuple[type[Self], tuple[str, tuple[str, ...]]]:
        return type(self), (self.message, self.problems)


class ErrorCategory(StrEnum):
    """What kind of failure a request met. The values are stable and appear in summaries."""

    RATE_LIMIT = "RATE_LIMIT"
    SERVER_ERROR = "SERVER_ERROR"
    INVALID_REQ = "INVALID_REQ"
    AUTH_ERROR = "AUTH_ERROR"
    UNKNOWN = "UNKNOWN"


class InferenceError(BatchGatewayError):
    """A request that did not succeed.

    Attributes:
        category: one of `ErrorCategory`.
        message: one short line for a person; never a whole response body.
        is_retryable: whether the same request may succeed later.
        status_code: the HTTP status, or None when no response arrived. Of an error that came with
            a 2xx it is the one that the error names, if it names one.
        body: the response body as received (perhaps cut short), empty when there was none.
        request_id: the request it belongs to, empty until a client has sent it.
        code: a short machine-readable cause: the gateway's `error.code`, or ours.
        retry_after: seconds the gateway asked to wait, or None.
        dropped_reason: llm-d's `x-llm-d-request-dropped-reason`, or None.
        rate_limits: the `x-ratelimit-*` headers of a refusal, by their names in lower case.
        attempts: how many times the request was sent.
        out_of_time: it was not sent again only because its deadline would have passed before.
        coalesced: how many requests were sent together and failed together, itself included.
        cause: the exception underneath, or None; also `__cause__`.
    """

    category: ClassVar[ErrorCategory] = ErrorCategory.UNKNOWN
    default_retryable: ClassVar[bool] = False
    default_code: ClassVar[str] = "unknown_error"

    def __init__(
        self,
        message: str,
        *,
        is_retryable: bool | None = None,
        status_code: int | None = None,
        body: bytes = b"",
        request_id: str = "",
        code: str | None = None,
        retry_after: float | None = None,
        dropped_reason: str | None = None,
        rate_limits: Mapping[str, str] | None = None,
        attempts: int = 0,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.is_retryable = self.default_retryable if is_retryable is None else is_retryable
        self.status_code = status_code
        self.body = body
        self.request_id = request_id
        self.code = code or self.default_code
        self.retry_after = retry_after
        self.dropped_reason = dropped_reason
        self.rate_limits = {} if rate_limits is None else dict(rate_limits)
        self.attempts = attempts
        self.out_of_time = False
        self.coalesced = 1
        self.__cause__ = cause

    @property
    def cause(self) -> BaseException | None:
        return self.__cause__

    def copy_for(self, request_id: str, *, attempts: int, coalesced: int = 1) -> Self:
        """The same failure of another request that shared its fate."""
        other = copy.copy(self)
        other.request_id = request_id
        other.attempts = attempts
        other.coalesced = coalesced
        other.__cause__ = self.__cause__
        return other

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        status = "" if self.status_code is None else f" status={self.status_code}"
        return f"<{type(self).__name__} {self.category.value}{status}: {self.message}>"


class RateLimitError(InferenceError):
    """The gateway refused because of load or quota (429)."""

    category = ErrorCategory.RATE_LIMIT
    default_retryable = True
    default_code = "rate_limit_exceeded"


class ServerError(InferenceError):
    """The gateway failed (5xx), or no usable answer arrived."""

    category = ErrorCategory.SERVER_ERROR
    default_retryable = True
    default_code = "server_error"


class GatewayConnectionError(ServerError, ConnectionError):
    """The connection could not be made, or broke before the answer was complete."""

    default_code = "connection_error"


class StaleConnectionError(GatewayConnectionError):
    """A reused connection was closed before the request on it was read.

    Over HTTP that is most probable, not proven, and the request is sent again on a new connection
    before anybody hears of it. An endpoint picker that goes away says which calls it has not
    looked at; those come as this error and are sent again at once.
    """

    default_code = "stale_connection"


class TLSError(GatewayConnectionError):
    """The TLS handshake failed: unknown CA, wrong host, expired, client certificate refused."""

    default_retryable = False
    default_code = "tls_error"


class RequestTimeoutError(ServerError, TimeoutError):
    """Connecting, or the whole attempt, took longer than its timeout."""

    default_code = "timeout"


class DeadlineExceededError(RequestTimeoutError):
    """The request's deadline passed. Not retryable: there is no time left to retry in."""

    default_retryable = False
    default_code = "deadline_exceeded"


class BadResponseError(ServerError):
    """An answer arrived that is not one: cut short, too large, malformed HTTP, not JSON, or
    without what was asked for."""

    default_code = "bad_response"


class CircuitOpenError(ServerError):
    """The request was not sent, because its gateway has been failing.

    Retryable by the caller, after `retry_after`; the client itself does not wait for it.
    """

    default_code = "circuit_open"


class InvalidRequestError(InferenceError):
    """The request itself is wrong (400), or was refused here before anything was sent."""

    category = ErrorCategory.INVALID_REQ
    default_code = "invalid_request"


class AuthenticationError(InferenceError):
    """The API key is missing, wrong or not allowed (401, 403)."""

    category = ErrorCategory.AUTH_ERROR
    default_code = "authentication_error"


class UnknownStatusError(InferenceError):
    """Any other status: 404, 408, 409, 413, 422, redirects, and what nobody thought of."""

    category = ErrorCategory.UNKNOWN
    default_code = "unexpected_status"


_CLASS_BY_STATUS: dict[int, type[InferenceError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: AuthenticationError,
    429: RateLimitError,
}

# The OpenAI SDK retries the first two: a 408 is a timeout said politely, a 409 a lock held by
# another. A 424 is the failure of a server behind this one, and a 425 asks for it later (RFC 4918
# §11.4, RFC 8470 §5.2).
_RETRYABLE_UNKNOWN = frozenset({408, 409, 424, 425})


def error_class_for_status(status_code: int) -> type[InferenceError]:
    """The exception class for a status that is not a success."""
    # Callers without a type checker do pass "503".
    if not isinstance(status_code, int):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"a status code is a whole number, not {status_code!r:.80}")
    if 500 <= status_code <= 599:
        return ServerError
    return _CLASS_BY_STATUS.get(status_code, UnknownStatusError)


def map_status_code_to_category(status_code: int) -> ErrorCategory:
    """The category of a status that is not a success.

    429 is RATE_LIMIT, 400 INVALID_REQ, 401 and 403 AUTH_ERROR, every 5xx SERVER_ERROR, and
    anything else UNKNOWN.
    """
    return error_class_for_status(status_code).category


def is_retryable_status(status_code: int) -> bool:
    """Whether a status alone says that the same request may succeed later."""
    return (
        error_class_for_status(status_code).default_retryable or status_code in _RETRYABLE_UNKNOWN
    )
