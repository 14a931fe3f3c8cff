"""Coverage-guided fuzzing of the HTTP/2 session that carries gRPC calls.

    pip install atheris
    python -m fuzz.http2_session --seconds 300

An input is what a server might send, from its first byte on, to a client with two calls under
way; its first two bytes say where it is cut and how many bytes arrive at a time. A finding is
written to `crash-…` in the working directory: make it a seed in `fuzz/seeds/http2_session`, under
a name that says what it is, and the tests will check it from then on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from batch_gateway.errors import InferenceError
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.session import Session
from batch_gateway.grpc.session_limits import LARGEST_FRAME, SessionLimits
from batch_gateway.grpc.stream_state import StreamState
from batch_gateway.wire.http2.frames import DATA, PREFACE, FrameReader
from batch_gateway.wire.http2.settings import LARGEST_WINDOW
from fuzz.engine import run

SEEDS = Path(__file__).parent / "seeds" / "http2_session"
WORDS = (
    *("\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x06\x04\x00\x00\x00\x00\x00"),
    *("\x01\x04\x00\x00\x00\x01", "\x01\x05\x00\x00\x00\x01", "\x00\x00\x00\x00\x00\x01"),
    *("\x00\x01\x00\x00\x00\x03", "\x03\x00\x00\x00\x00\x01", "\x08\x00\x00\x00\x00\x00"),
    *("\x07\x00\x00\x00\x00\x00", "\x09\x04\x00\x00\x00\x01", "\x06\x00\x00\x00\x00\x00"),
    *("\x88", "application/grpc", "grpc-status", "grpc-message", "content-type", "\x0f\x10"),
)
LIMITS = SessionLimits(max_message=200, stream_window=1000, connection_window=65_535)

Verdict = tuple[object, ...]


def pieces(wire: bytes, first: int, step: int) -> Iterator[bytes]:
    """`wire` as it might arrive: `first` bytes, then `step` at a time (0: all the rest)."""
    yield wire[:first]
    for start in range(first, len(wire), step or max(1, len(wire))):
        yield wire[start : start + (step or len(wire))]


def read(parts: Iterator[bytes]) -> Verdict:
    """What a session makes of it: messages and ends of its calls, and what it says to it."""
    session = Session("picker:1", LIMITS, lambda: None)
    session.greet()
    small, large = (session.open(b"\x20\x83", 1.0) for _ in range(2))
    small.send(b"x" * 100, end=True)
    large.send(b"x" * 100_000, end=False)
    for part in parts:
        if part:
            session.feed(part)
    heard = [_heard(stream) for stream in (small, large)]
    assert session.send_window >= 0 or session.over
    assert session.send_window <= LARGEST_WINDOW or session.over
    if session.over:
        assert not session.streams
        assert session.failure is not None
    said = b"".join(session.output)
    sent = _check_frames(said)
    return (*heard, session.over, session.draining, session.room, sent, said)


def _heard(stream: StreamState) -> tuple[object, ...]:
    messages = [stream.take() for _ in range(len(stream.messages))]
    assert all(len(message) <= LIMITS.max_message for message in messages)
    assert sum(len(message) + 5 for message in messages) <= LIMITS.stream_window + 205
    error = stream.error
    assert stream.over or error is None
    assert error is None or isinstance(error, InferenceError | GrpcStatusError)
    if isinstance(error, InferenceError):
        assert 0 < len(error.message) < 300, error.message
    return (messages, stream.over, type(error), str(error))


def _check_frames(said: bytes) -> int:
    """Whatever it says is HTTP/2; how much of it is content."""
    assert said.startswith(PREFACE)
    reader = FrameReader(LARGEST_FRAME)
    sent = 0
    for kind, _, number, payload in reader.feed(said.removeprefix(PREFACE)):
        assert kind <= 8
        assert number in (0, 1, 3)
        sent += len(payload) if kind == DATA else 0
    assert reader.held == 0
    assert sent <= 105 + 100_005
    return sent


def check(data: bytes) -> None:
    """Fail when an input breaks a promise of the session.

    Nothing but an error of this package ends a call; limits hold; what is said is HTTP/2; and how
    the bytes were cut changes nothing.
    """
    first, step, wire = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    whole = read(iter([wire]))
    cut = read(pieces(wire, first, step))
    assert whole == cut, (whole, cut)


if __name__ == "__main__":
    run(check, "the HTTP/2 session", SEEDS, WORDS)
