"""Coverage-guided fuzzing of the HTTP response reader.

    pip install atheris
    python -m fuzz.response_reader --seconds 300

Atheris mutates the seeds in `fuzz/seeds/response_reader`. An input is a response as a server
might send it; its first two bytes say where it is cut and how many bytes arrive at a time. A
finding is written to `crash-…` in the working directory: make it a seed, under a name that says
what it is, and the tests will check it from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batch_gateway.errors import InferenceError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.response_reader import MAX_HEAD_BYTES, ResponseReader
from batch_gateway.http.usual_response import usual_response
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "response_reader"
WORDS = (
    *("HTTP/1.1 200 OK", "HTTP/1.0 404 ", "HTTP/1.1 100 Continue", "\r\n", "\r\n\r\n"),
    *("Content-Length: ", "Transfer-Encoding: chunked", "Connection: close", "keep-alive"),
    *("Content-Encoding: gzip", "deflate", "identity", "Upgrade: h2c", "0\r\n\r\n", "5\r\nhello"),
)
BODY_LIMIT = 1000

Verdict = HTTPResponse | type[InferenceError]


def pieces(wire: bytes, first: int, step: int) -> Iterator[bytes]:
    """`wire` as it might arrive: `first` bytes, then `step` at a time (0: all the rest)."""
    yield wire[:first]
    step = step or max(1, len(wire))
    for start in range(first, len(wire), step):
        yield wire[start : start + step]


def read(parts: Iterator[bytes]) -> Verdict:
    """What the reader makes of it."""
    reader = ResponseReader("gateway:1", BODY_LIMIT)
    try:
        for part in parts:
            response = reader.feed(part)
            if response is not None:
                return response
        return reader.finish()
    except InferenceError as error:
        assert 0 < len(error.message) < 300, error.message
        return type(error)


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the reader.

    Nothing but a response or an InferenceError comes out; limits hold; how the bytes were cut does
    not change what was read; and a usual response is read just so without the parser.
    """
    first, step, wire = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    whole = read(iter([wire]))
    usual = usual_response(wire, BODY_LIMIT)
    if usual is not None:
        assert isinstance(whole, HTTPResponse), (whole, usual)
        assert (whole.status_code, whole.body, whole.coding) == (200, usual.body, "")
        assert whole.headers.raw == usual.headers.raw
    cut = read(pieces(wire, first, step))
    if isinstance(whole, HTTPResponse):
        assert isinstance(cut, HTTPResponse), (whole, cut)
        assert (whole.status_code, whole.body) == (cut.status_code, cut.body)
        assert whole.headers.raw == cut.headers.raw
        assert len(whole.body) <= BODY_LIMIT
        assert sum(len(n) + len(v) for n, v in whole.headers.raw) <= MAX_HEAD_BYTES
    else:
        assert whole is cut, (whole, cut)


if __name__ == "__main__":
    run(check, "the HTTP response reader", SEEDS, WORDS)
