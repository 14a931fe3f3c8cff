"""From the end of one request to its line in a result file."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from batch_gateway.client.interfaces.request import InferenceResponse
from batch_gateway.engine.problems import Fault
from batch_gateway.errors import ErrorCategory, InferenceError
from batch_gateway.wire.json_check import decode_text
from batch_gateway.wire.json_schema import INVALID_ANSWER
from batch_gateway.wire.lines import error_line, error_response_line, success_line, wrap_error_body
from batch_gateway.wire.usage import Usage

__all__ = [
    "Outcome",
    "failure_outcome",
    "faulty_outcome",
    "internal_error_outcome",
    "success_outcome",
    "unknown_model_outcome",
    "unknown_model_words",
]

_REQUEST_ID = b"x-request-id"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """A request that has ended, ready to be recorded.

    An answer `from_cache` cost no tokens. `coalesced` requests were sent as one. `cut_off` says why
    an answer is not whole.

    `category` is None for a success. `usage` are the tokens of the answer; of a failure,
    `is_retryable` says that the same request may succeed later; `time_to_first_token`, in seconds,
    is None where it was not streamed.
    """

    index: int
    custom_id: str
    line: bytes
    attempts: int
    category: ErrorCategory | None = None
    status_code: int | None = None
    message: str = ""
    is_retryable: bool = False
    usage: Usage | None = None
    from_cache: bool = False
    coalesced: int = 1
    time_to_first_token: float | None = None
    cut_off: str | None = None


def success_outcome(
    index: int, result_id: str, custom_id: str, response: InferenceResponse
) -> Outcome:
    """The line of the output file for an answer."""
    # Not by look-up, which would index every header of every response for this one.
    said = response.headers.first(_REQUEST_ID)
    request_id = (said and said.decode("latin-1").strip()) or result_id
    line = success_line(result_id, custom_id, response.status_code, request_id, response.body)
    usage, cut_off = response.figures()
    return Outcome(
        index,
        custom_id,
        line,
        response.attempts,
        usage=None if response.from_cache else usage,
        from_cache=response.from_cache,
        coalesced=response.coalesced,
        time_to_first_token=response.time_to_first_token,
        cut_off=cut_off,
    )


def failure_outcome(index: int, result_id: str, custom_id: str, error: InferenceError) -> Outcome:
    """The line of the error file: the gateway's own answer if there was one, else our words."""
    status = error.status_code
    if status is None or 200 <= status < 300:
        # A success status whose body is unusable is not an answer. One that would come again just
        # so, or that is another answer than was asked for, is kept as text: it was paid for.
        is_kept = not error.is_retryable or error.code == INVALID_ANSWER
        wasted = decode_text(error.body) if is_kept and error.body else None
        line = error_line(result_id, custom_id, error.code, error.message, wasted)
    else:
        kind = error.default_code
        body = wrap_error_body(error.body, message=error.message, kind=kind, code=error.code)
        line = error_response_line(
            result_id, custom_id, status, error.request_id or result_id, body
        )
    return Outcome(
        index,
        custom_id,
        line,
        error.attempts,
        category=error.category,
        status_code=status,
        coalesced=error.coalesced,
        message=error.message,
        is_retryable=error.is_retryable,
    )


def unknown_model_words(model: str) -> str:
    return f"no gateway is configured for model {model!r}"


def unknown_model_outcome(index: int, result_id: str, custom_id: str, model: str) -> Outcome:
    """The line of the error file for a model that no gateway serves."""
    message = unknown_model_words(model)
    line = error_line(result_id, custom_id, "model_not_found", message)
    return Outcome(index, custom_id, line, 0, category=ErrorCategory.INVALID_REQ, message=message)


def faulty_outcome(index: int, result_id: str, custom_id: str, faults: Sequence[Fault]) -> Outcome:
    """The line of the error file for a line of the input that is left out."""
    message = "the line " + "; ".join(fault.text for fault in faults)
    line = error_line(result_id, custom_id, faults[0].code, message)
    return Outcome(index, custom_id, line, 0, category=ErrorCategory.INVALID_REQ, message=message)


def internal_error_outcome(
    index: int, result_id: str, custom_id: str, error: Exception, told: str
) -> Outcome:
    """The line of the error file for a request that met a fault of this program."""
    message = f"a fault of batch-gateway itself ({type(error).__name__}); {told}"
    line = error_line(result_id, custom_id, "internal_error", message)
    return Outcome(index, custom_id, line, 0, category=ErrorCategory.UNKNOWN, message=message)
