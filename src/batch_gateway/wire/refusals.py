"""Failures that do not mean what their status says: what llm-d and GAIE mean by a 500 or a 503.

Reasons and bodies are those of llm-d-router 0.10, and the 503 of its 0.9. Codes are this
client's own, for pods that an endpoint picker chose.
"""

from __future__ import annotations

import errno

from batch_gateway.errors import (
    DeadlineExceededError,
    ErrorCategory,
    GatewayConnectionError,
    InferenceError,
)
from batch_gateway.wire.refusal_words import is_page, is_used_up
from batch_gateway.wire.scheduling_headers import NO_ENDPOINTS, TTL_EXPIRED

__all__ = [
    "EVENT_TOO_LARGE",
    "PODS_UNREACHABLE",
    "POD_FAILED",
    "POD_UNREACHABLE",
    "RESPONSE_TOO_LARGE",
    "TOO_LARGE_CODES",
    "is_connect_failure",
    "is_eviction",
    "is_outage",
    "wants_room",
]

_BROKEN = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
# Libraries wrap them in an OSError of their own.
_BROKEN_CODES = frozenset({errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE})

POD_UNREACHABLE = "pod_unreachable"
"""The picker goes on choosing pods that cannot be reached, while others of the pool work."""

POD_FAILED = "pod_failed"
"""A pod broke the connection of a request, while others of the pool work."""

PODS_UNREACHABLE = "pods_unreachable"
"""No pod of the pool that the picker chose can be reached."""

RESPONSE_TOO_LARGE = "response_too_large"
"""An answer is larger than `max_response_bytes`."""

EVENT_TOO_LARGE = "event_too_large"
"""An event of a streamed answer is larger than `max_event_bytes`."""

TOO_LARGE_CODES = frozenset({RESPONSE_TOO_LARGE, EVENT_TOO_LARGE})
"""Of answers that are larger than a setting allows, and no worse than others besides."""

_OF_ONE_POD = frozenset({POD_UNREACHABLE, POD_FAILED})

# Refusals for want of room that do not come as a 429.
_WANTS_ROOM_REASONS = frozenset({NO_ENDPOINTS, TTL_EXPIRED})
# The router works: nobody waited for the answer any more.
_GIVEN_UP_REASONS = frozenset({TTL_EXPIRED, "rejected-context-cancelled"})
_ADMISSION_REFUSED = b"request cannot be admitted"


def is_eviction(reason: str | None) -> bool:
    """Whether a dropped reason says that a request was taken back from the pod that had it."""
    return reason is not None and reason.startswith("evicted")


def wants_room(error: InferenceError) -> bool:
    """Whether the gateway refused for load, in whichever of its ways."""
    return (
        (error.category is ErrorCategory.RATE_LIMIT and not is_used_up(error))
        or error.dropped_reason in _WANTS_ROOM_REASONS
        or _is_shed(error)
    )


def is_outage(error: InferenceError, *, has_answered: bool = False) -> bool:
    """Whether a failure speaks against the gateway, and not against the request or its pace.

    A page instead of an answer does where there were answers before.
    """
    return (has_answered and is_page(error)) or (
        error.category is ErrorCategory.SERVER_ERROR
        and not isinstance(error, DeadlineExceededError)
        and error.dropped_reason not in _GIVEN_UP_REASONS
        and error.code not in _OF_ONE_POD
        and error.code not in TOO_LARGE_CODES
        and not _is_shed(error)
    )


def is_connect_failure(error: InferenceError) -> bool:
    """Whether no connection was made at all: refused, unknown host, no route, TLS.

    Not one that broke, which a restarting replica does to its requests, nor one that timed out.
    """
    cause = error.cause
    if not isinstance(error, GatewayConnectionError) or not isinstance(cause, OSError):
        return False
    broke = isinstance(cause, _BROKEN) or cause.errno in _BROKEN_CODES
    return not broke and not isinstance(cause, TimeoutError)


def _is_shed(error: InferenceError) -> bool:
    return error.status_code == 500 and _ADMISSION_REFUSED in error.body
