"""The answers that faults put in the place of the right one."""

from __future__ import annotations

from batch_gateway.simulator.answers.replies import JSON, LLMD_REFUSALS, Reply, openai_error
from batch_gateway.simulator.faults import Fault

__all__ = ["reply_without_answer", "spoiled_reply"]

_HTML_502 = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>proxy</center>\r\n"
    b"</body>\r\n</html>\r\n"
)
_HINTS = {
    "retry-after": "retry-after",
    "retry-after-ms": "retry-after-ms",
    "should-retry": "x-should-retry",
}
_MESSAGES = {
    401: "Incorrect API key provided.",
    403: "You are not allowed to use this model.",
    404: "The resource does not exist.",
    429: "Rate limit reached for requests.",
}


def reply_without_answer(fault: Fault) -> Reply | None:
    """The reply of a fault that does not need the right answer; None for all others."""
    reply = _plain_reply(fault)
    if reply is None:
        return None
    hints = tuple((_HINTS[key], fault.options[key]) for key in _HINTS if key in fault.options)
    return reply._replace(headers=reply.headers + hints)


def _plain_reply(fault: Fault) -> Reply | None:
    if fault.name in LLMD_REFUSALS:
        return LLMD_REFUSALS[fault.name]
    if fault.name in ("status", "refuse-then-ok"):
        return _error_reply(fault.status)
    if fault.name == "html-502":
        return Reply(502, _HTML_502, "text/html")
    if fault.name == "empty-500":
        return Reply(500, b"", "text/plain")
    return None


def _error_reply(status: int) -> Reply:
    if status < 200 or status in (204, 304):
        return Reply(status)
    if status < 300:
        return Reply(status, b"{}")
    message = _MESSAGES.get(status, "The simulated gateway was asked for this status.")
    code = "rate_limit_exceeded" if status == 429 else f"simulated_{status}"
    return openai_error(status, message, code=code)


def spoiled_reply(fault: Fault, right: Reply) -> Reply:
    """What `empty-body`, `not-json` and `truncated-json` make of the right answer."""
    if fault.name == "empty-body":
        return right._replace(body=b"")
    if fault.name == "not-json":
        return right._replace(body=b"The model says hello, but not in JSON.", content_type=JSON)
    return right._replace(body=right.body[: len(right.body) // 2])
