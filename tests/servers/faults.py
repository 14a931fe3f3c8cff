"""The fault matrix: what a gateway does wrong, whoever it is, and what that is turned into."""

from __future__ import annotations

from dataclasses import dataclass

from tests.servers.form import HELLO, Form, chat, delta, events, flat_error, framed, reply

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """One row.

    Attributes:
        form: what it says; or with an empty `wire` what the simulator does for `fault`.
        kind: the class of the error, "" for an answer.
        recorded: where the line of a run goes, retries being of no use.
    """

    form: Form
    kind: str
    recorded: str = "errors file"
    fault: str = ""


def _simulated(fault: str, says: str, becomes: str, kind: str, **more: str) -> Fault:
    return Fault(Form(says, b"", becomes), kind, fault=fault, **more)


REFUSED, DONE = "stays to be sent", "results"
PLACE, MODEL = "errors file, if others get through", "errors file, if the model ever answers"
BAD, GONE, LATE = "BadResponseError", "GatewayConnectionError", "RequestTimeoutError"
SERVER, LIMIT, UNKNOWN = "ServerError", "RateLimitError", "UnknownStatusError"
INVALID, AUTH = "InvalidRequestError", "AuthenticationError"

_CONNECTIONS = (
    _simulated(
        "reset-before-headers",
        "resets the connection before it answers",
        "`SERVER_ERROR`, retried",
        GONE,
    ),
    _simulated(
        "reset-after-headers",
        "resets it behind the head of its answer",
        "`SERVER_ERROR`, retried",
        GONE,
    ),
    _simulated("half-body", "closes it in the middle of a body", "`SERVER_ERROR`, retried", BAD),
    _simulated("malformed-head", "sends a head that is not HTTP", "`SERVER_ERROR`, retried", BAD),
    _simulated("stall", "takes the request and says nothing", "`SERVER_ERROR`, retried", LATE),
    _simulated(
        "endless-body", "sends more than `max_response_bytes`", "`SERVER_ERROR` 200, final", BAD
    ),
)

_NO = {"error": {"message": "no"}}
_STATUSES = (
    Fault(Form("400", reply(400, _NO), "`INVALID_REQ` 400, final", "no"), INVALID),
    Fault(Form("401", reply(401, _NO), "`AUTH_ERROR` 401, final", "no"), AUTH, REFUSED),
    Fault(Form("402", reply(402, _NO), "`UNKNOWN` 402, final", "no"), UNKNOWN, REFUSED),
    Fault(Form("403", reply(403, _NO), "`AUTH_ERROR` 403, final", "no"), AUTH, PLACE),
    Fault(
        Form(
            "404 as a page: a wrong path",
            framed(404, b"<h1>Not Found</h1>", "text/html"),
            "`UNKNOWN` 404, final",
            "Not Found",
        ),
        UNKNOWN,
        PLACE,
    ),
    Fault(
        Form(
            "404 about the model",
            reply(404, {"error": {"message": "no such model", "code": "model_not_found"}}),
            "`INVALID_REQ` 404, final",
            "no such model",
        ),
        INVALID,
        MODEL,
    ),
    Fault(Form("408", reply(408, _NO), "`UNKNOWN` 408, retried", "no"), UNKNOWN),
    Fault(Form("409", reply(409, _NO), "`UNKNOWN` 409, retried", "no"), UNKNOWN),
    Fault(Form("413", reply(413, _NO), "`UNKNOWN` 413, final", "no"), UNKNOWN),
    Fault(Form("422", reply(422, _NO), "`UNKNOWN` 422, final", "no"), UNKNOWN),
    Fault(Form("424", reply(424, _NO), "`UNKNOWN` 424, retried", "no"), UNKNOWN),
    Fault(Form("425", reply(425, _NO), "`UNKNOWN` 425, retried", "no"), UNKNOWN),
    Fault(Form("429", reply(429, _NO), "`RATE_LIMIT` 429, retried", "no"), LIMIT, PLACE),
    Fault(
        Form(
            "429, with `Retry-After: 7`",
            reply(429, {}, retry_after="7"),
            "`RATE_LIMIT` 429, retried after 7 s",
        ),
        LIMIT,
        PLACE,
    ),
    Fault(Form("500", reply(500, _NO), "`SERVER_ERROR` 500, retried", "no"), SERVER),
    Fault(
        Form(
            "502 as a page",
            framed(502, b"<h1>Bad Gateway</h1>", "text/html"),
            "`SERVER_ERROR` 502, retried",
            "Bad Gateway",
        ),
        SERVER,
    ),
    Fault(Form("503 as text", reply(503, "busy"), "`SERVER_ERROR` 503, retried", "busy"), SERVER),
    Fault(
        Form("504 without a body", framed(504, b""), "`SERVER_ERROR` 504, retried", "no body"),
        SERVER,
    ),
    Fault(
        Form(
            "307 to elsewhere",
            framed(307, b"", location="https://elsewhere/"),
            "`UNKNOWN` 307, final",
        ),
        UNKNOWN,
        PLACE,
    ),
    Fault(
        Form(
            "503 with `x-should-retry: false`",
            reply(503, {}, x_should_retry="false"),
            "`SERVER_ERROR` 503, final",
        ),
        SERVER,
    ),
)

_NO_ANSWERS = (
    Fault(
        Form(
            '200 with `{"error":{"code":429,…}}`',
            reply(200, {"error": {"code": 429, "message": "slow down"}}),
            "`RATE_LIMIT` 429, retried",
            "slow down",
        ),
        LIMIT,
        PLACE,
    ),
    Fault(
        Form(
            '200 with `{"object":"error",…,"code":400}`',
            reply(200, flat_error("bad", "BadRequestError", 400)),
            "`INVALID_REQ` 400, final",
            "bad",
        ),
        INVALID,
    ),
    Fault(
        Form(
            '200 with `{"detail":"…"}` or another vendor\'s words',
            reply(200, {"detail": "backend down"}),
            "`SERVER_ERROR` 200, retried",
            "backend down",
        ),
        BAD,
    ),
    Fault(Form("200 with `{}` or no choices", reply(200, {}), "`SERVER_ERROR` 200, retried"), BAD),
    Fault(
        Form(
            '200 with `finish_reason: "abort"`',
            reply(200, chat("Hel", "abort")),
            "`SERVER_ERROR` 200, retried",
            "abort",
        ),
        BAD,
    ),
    Fault(Form("200 with an empty body", framed(200, b""), "`SERVER_ERROR` 200, retried"), BAD),
    Fault(
        Form(
            "200 with a page",
            framed(200, b"<html>Sign in</html>", "text/html"),
            "`SERVER_ERROR` 200, retried",
        ),
        BAD,
    ),
    Fault(
        Form(
            "200 whose JSON has `NaN` in it",
            framed(200, b'{"choices":[NaN]}'),
            "`SERVER_ERROR` 200, final",
            "NaN",
        ),
        BAD,
    ),
    Fault(
        Form(
            "200 with a byte-order mark before good JSON",
            framed(200, b"\xef\xbb\xbf" + reply(200, chat("Hello")).partition(b"\r\n\r\n")[2]),
            "an answer, its tokens counted",
            "Hello",
        ),
        "",
        DONE,
    ),
    Fault(
        Form(
            '200 with `"error":null` beside good choices',
            reply(200, {**chat("Hello"), "error": None}),
            "an answer, its tokens counted",
            "Hello",
        ),
        "",
        DONE,
    ),
)

_STREAMS = (
    Fault(
        Form(
            "a stream that ends without a finish reason",
            events(*HELLO, done=False),
            "`SERVER_ERROR` 200, retried",
            asked="stream",
        ),
        BAD,
    ),
    Fault(
        Form(
            "one that ends behind its finish reason, without `[DONE]`",
            events(*HELLO, delta("stop"), done=False),
            "an answer",
            "Hello",
            "stream",
        ),
        "",
        DONE,
    ),
    Fault(
        Form(
            "an error event before anything was generated",
            events({"error": {"code": 400, "message": "too long"}}, done=False),
            "`INVALID_REQ` 400, final",
            "too long",
            "stream",
        ),
        INVALID,
    ),
    Fault(
        Form(
            "the same in the middle",
            events(*HELLO, {"error": {"code": 503, "message": "gone"}}),
            "`SERVER_ERROR` 503, retried",
            "gone",
            "stream",
        ),
        SERVER,
    ),
    Fault(
        Form(
            "an event that is not JSON",
            events(HELLO[0], "data: {oops\n\n"),
            "`SERVER_ERROR` 200, retried",
            "broken_chunk",
            "stream",
        ),
        BAD,
    ),
    Fault(
        Form(
            "plain JSON where a stream was asked for",
            reply(200, chat("Hello")),
            "an answer, its tokens counted",
            "Hello",
            "stream",
        ),
        "",
        DONE,
    ),
)

FAULTS = (*_CONNECTIONS, *_STATUSES, *_NO_ANSWERS, *_STREAMS)
