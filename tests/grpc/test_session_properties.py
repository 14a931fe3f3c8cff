"""The session under random servers: well-behaved ones are served exactly, others do no harm."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.grpc.session import Session
from batch_gateway.grpc.session_limits import LARGEST_FRAME, SessionLimits
from batch_gateway.wire.http2.frames import DATA, END_STREAM, PREFACE, WINDOW_UPDATE, FrameReader
from fuzz.http2_session import check
from tests.grpc import raw_http2 as raw
from tests.wire.http2.cutting import cut

KINDS = st.integers(0, 11)
NUMBERS = st.sampled_from([0, 1, 1, 3, 3, 2, 5])
BLOCKS = st.sampled_from(
    [raw.block(raw.OK_HEADERS), raw.block(raw.OK_TRAILERS), raw.block([(":status", "103")]), b""]
)
PAYLOADS = st.one_of(
    st.binary(max_size=20), BLOCKS, st.binary(max_size=30).map(raw.message), st.binary(max_size=300)
)
FRAMES = st.one_of(
    st.builds(raw.frame, KINDS, st.sampled_from([0, 1, 4, 5, 8, 0x2C, 255]), NUMBERS, PAYLOADS),
    st.builds(raw.headers, st.sampled_from([1, 3])),
    st.builds(raw.trailers, st.sampled_from([1, 3])),
    st.builds(raw.data, st.sampled_from([1, 3]), st.binary(max_size=300).map(raw.message)),
    st.builds(raw.window_update, NUMBERS, st.integers(0, 2**31 - 1)),
    st.builds(raw.goaway, st.integers(0, 5)),
    st.builds(lambda size: raw.settings(window=size), st.integers(0, 2**31)),
)


@given(frames=st.lists(FRAMES, max_size=12), first=st.integers(0, 255), step=st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_no_server_makes_it_break_its_promises(frames: list[bytes], first: int, step: int) -> None:
    check(bytes([first, step]) + raw.settings() + b"".join(frames))


@given(
    messages=st.lists(st.binary(max_size=3000), max_size=20),
    frames=st.lists(st.integers(1, 900), min_size=1, max_size=5),
    padding=st.integers(0, 255),
    arrivals=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    lazy=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_what_a_server_sends_within_its_windows_is_received_exactly(
    messages: list[bytes], frames: list[int], padding: int, arrivals: list[int], lazy: int
) -> None:
    session = Session("peer:1", SessionLimits(stream_window=1500), lambda: None)
    session.greet()
    session.feed(raw.settings())
    stream = session.open(b"", 1.0)
    session.feed(raw.headers(1))
    window, received = 1500, list[bytes]()
    for turn, piece in enumerate(cut(b"".join(map(raw.message, messages)), frames)):
        payload = bytes((padding,)) + piece + bytes(padding)
        while window < len(payload):
            # As long as it reads at all, there is room some time.
            received.append(stream.take())
            window += granted(session)
        window -= len(payload)
        for arrival in cut(raw.frame(raw.DATA, raw.PADDED, 1, payload), arrivals):
            session.feed(arrival)
        if lazy and turn % lazy == 0 and stream.messages:
            received.append(stream.take())
        window += granted(session)
        assert window <= 1500
    session.feed(raw.trailers(1))
    while stream.messages:
        received.append(stream.take())
    assert received == messages
    assert (stream.over, stream.error) == (True, None)


@given(
    messages=st.lists(st.tuples(st.binary(max_size=400), st.booleans()), max_size=30),
    arrivals=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    split=st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_what_is_taken_before_it_becomes_frames_counts_and_keeps_its_place(
    messages: list[tuple[bytes, bool]], arrivals: list[int], split: int
) -> None:
    session = Session("peer:1", SessionLimits(stream_window=1500), lambda: None)
    session.greet()
    session.feed(raw.settings())
    stream = session.open(b"", 1.0)
    received: list[bytes] = []
    known = {raw.message(content) for content, is_known in messages if is_known}

    def take(data: bytes, start: int, end: int) -> int:
        for message in sorted(known, key=len, reverse=True):
            if data[start:end].startswith(message):
                received.append(message[5:])
                return start + len(message)
        return start

    stream.offer(take)
    session.feed(raw.headers(1))
    window = 1500
    for turn, (content, _) in enumerate(messages):
        # Several frames now and then, of which none is a message.
        whole = raw.message(content)
        pieces = cut(whole, [100]) if split and turn % split == 0 else [whole]
        wire = b"".join(raw.frame(raw.DATA, 0, 1, piece) for piece in pieces)
        window -= len(whole)
        assert window >= 0
        for arrival in cut(wire, arrivals):
            session.feed(arrival)
        while stream.messages:
            received.append(stream.take())
        window += granted(session)
    session.feed(raw.trailers(1))
    assert received == [content for content, _ in messages]
    assert (stream.over, stream.error) == (True, None)


def granted(session: Session) -> int:
    """What the session has allowed to stream 1 since it was last asked."""
    said = b"".join(session.output).removeprefix(PREFACE)
    session.output.clear()
    return sum(
        int.from_bytes(payload)
        for kind, _, number, payload in FrameReader(LARGEST_FRAME).feed(said)
        if kind == WINDOW_UPDATE and number == 1
    )


class Windows:
    """A server that keeps account of what it allows, and of what comes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connection = 65_535
        self.initial = 65_535
        self.streams = {1: 65_535, 3: 65_535}
        self.content = {1: b"", 3: b""}
        self.ended = set[int]()

    def take(self) -> None:
        """Read what was said; fails when it is more than was allowed."""
        said = b"".join(self.session.output).removeprefix(PREFACE)
        self.session.output.clear()
        for kind, flags, number, payload in FrameReader(LARGEST_FRAME).feed(said):
            if kind != DATA:
                continue
            assert number not in self.ended
            self.content[number] += payload
            self.connection -= len(payload)
            self.streams[number] -= len(payload)
            assert not payload or (self.connection >= 0 and self.streams[number] >= 0)
            if flags & END_STREAM:
                self.ended.add(number)

    def allow(self, number: int, more: int) -> None:
        if number:
            self.streams[number] += more
        else:
            self.connection += more
        self.session.feed(raw.window_update(number, more))
        self.take()

    def change(self, size: int) -> None:
        for number in self.streams:
            self.streams[number] += size - self.initial
        self.initial = size
        self.session.feed(raw.settings(window=size))
        self.take()


STEPS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from([1, 3]), st.integers(0, 70_000)),
    st.tuples(st.just("allow"), st.sampled_from([0, 1, 3]), st.integers(1, 70_000)),
    st.tuples(st.just("change"), st.just(0), st.integers(0, 100_000)),
    st.tuples(st.just("congest"), st.just(0), st.booleans()),
)


@given(steps=st.lists(STEPS, max_size=25))
@settings(max_examples=80, deadline=None)
def test_what_is_sent_keeps_to_every_window_and_arrives_whole(
    steps: list[tuple[str, int, int]],
) -> None:
    session = Session("peer:1", SessionLimits(), lambda: None)
    session.greet()
    session.feed(raw.settings())
    streams = {number: session.open(b"", 1.0) for number in (1, 3)}
    server = Windows(session)
    sent = {1: b"", 3: b""}
    for what, number, size in steps:
        if what == "send":
            message = bytes([len(sent[number]) % 256]) * size
            sent[number] += raw.message(message)
            if not streams[number].send_at_once((message,), end=False):
                streams[number].send(message, end=False)
        elif what == "allow":
            server.allow(number, size)
        elif what == "change":
            server.change(size)
        elif size:
            session.congested = True
        else:
            session.relieved()
        server.take()
    for stream in streams.values():
        stream.half_close()
    session.relieved()
    server.take()
    for number in (0, 1, 3):
        server.allow(number, 4_000_000)
    assert server.content == sent
    assert server.ended == {1, 3}
    assert not any(stream.held_back for stream in streams.values())
