"""HTTP/2's error codes (RFC 9113 §7), and the error for a peer that broke a rule."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ErrorCode", "ProtocolError", "code_name", "out_of_order", "require_size"]


class ErrorCode(IntEnum):
    """RFC 9113 §7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(Exception):
    """The peer broke a rule of HTTP/2. `stream` names the stream it is confined to, or None."""

    def __init__(self, code: ErrorCode, problem: str, stream: int | None = None) -> None:
        super().__init__(problem)
        self.code = code
        self.problem = problem
        self.stream = stream


def out_of_order(problem: str, stream: int | None = None) -> ProtocolError:
    """The error for a frame that may not come here or now."""
    return ProtocolError(ErrorCode.PROTOCOL_ERROR, problem, stream)


def require_size(what: str, payload: bytes, size: int) -> None:
    """Raises ProtocolError for a payload of any other size."""
    if len(payload) != size:
        raise ProtocolError(ErrorCode.FRAME_SIZE_ERROR, f"{what} of a broken length")


def code_name(code: int) -> str:
    """The name of an error code for messages."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"
