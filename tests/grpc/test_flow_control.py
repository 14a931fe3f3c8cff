"""Windows in both directions: nothing is sent that was not allowed, and nothing stalls."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway.errors import BadResponseError, RequestTimeoutError
from batch_gateway.grpc.session_limits import SessionLimits
from tests.grpc.conftest import Bench, soon
from tests.grpc.raw_http2 import (
    ACK,
    DATA,
    END_STREAM,
    PADDED,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    Conversation,
    data,
    frame,
    headers,
    message,
    settings,
    trailers,
    window_update,
)
from tests.http.native.raw_server import Peer, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What bytes mean is the same on every event loop."""
    return "asyncio"


async def content(conversation: Conversation, size: int) -> list[tuple[int, int]]:
    """Stream and size of the DATA frames that make up so many bytes."""
    frames: list[tuple[int, int]] = []
    while sum(length for _, length in frames) < size:
        _, _, stream, payload = await conversation.next(DATA)
        frames.append((stream, len(payload)))
    return frames


async def nothing_more(conversation: Conversation) -> None:
    """The client answers a ping, and has sent no DATA before."""
    await conversation.send(frame(6, 0, 0, b"12345678"))
    kind, flags, _, payload = await conversation.next(DATA, 6)
    assert (kind, flags, payload) == (6, ACK, b"12345678")


async def test_no_more_is_sent_than_the_stream_allows(bench: Bench) -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=10)
        await conversation.request()
        assert await content(conversation, 10) == [(1, 10)]
        await nothing_more(conversation)
        await conversation.send(window_update(1, 1))
        assert await content(conversation, 1) == [(1, 1)]
        await conversation.send(window_update(1, 1000))
        assert await content(conversation, 94) == [(1, 94)]
        await conversation.answer(1, b"ok")
        done.set()
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    await call.send(b"x" * 100, end=True)
    assert [await call.receive(), await call.receive()] == [b"ok", None]
    assert done.is_set()


async def test_no_more_is_sent_than_the_connection_allows_and_streams_take_turns(
    bench: Bench,
) -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=1_000_000, frame=16_384)
        for _ in range(2):
            await conversation.request()
        first = await content(conversation, 65_535)
        assert {stream for stream, _ in first} == {1}
        await nothing_more(conversation)
        await conversation.send(window_update(0, 4 * 16_384))
        turns = await content(conversation, 4 * 16_384)
        assert turns == [(1, 16_384), (3, 16_384), (1, 16_384), (3, 16_384)]
        await nothing_more(conversation)
        await conversation.send(window_update(0, 1_000_000))
        await content(conversation, 2 * 200_005 - 65_535 - 4 * 16_384)
        for stream in (1, 3):
            await conversation.answer(stream)
        done.set()
        await peer.gone()

    _, channel = await bench.raw(script)
    calls = [await channel.open("/s/M", deadline=soon()) for _ in range(2)]
    await asyncio.gather(*(call.send(b"x" * 200_000, end=True) for call in calls))
    for call in calls:
        assert await call.receive() is None
    assert done.is_set()


async def test_a_window_that_is_made_smaller_may_become_negative(bench: Bench) -> None:
    done = asyncio.Event()

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=1000)
        await conversation.request()
        await content(conversation, 1000)
        await conversation.send(settings(window=100))  # 900 below nothing
        while not (await conversation.next(SETTINGS))[1] & ACK:
            pass
        await conversation.send(window_update(1, 900))
        await nothing_more(conversation)
        await conversation.send(window_update(1, 3))
        assert await content(conversation, 3) == [(1, 3)]
        await conversation.send(settings(window=10_000))
        assert await content(conversation, 1002) == [(1, 1002)]
        await conversation.answer(1)
        done.set()
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    await call.send(b"x" * 2000, end=True)
    assert await call.receive() is None
    assert done.is_set()


async def test_the_end_of_what_is_sent_waits_its_turn(bench: Bench) -> None:
    flags_seen: list[int] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=3)
        await conversation.request()
        while not flags_seen or not flags_seen[-1] & END_STREAM:
            _, flags, _, payload = await conversation.next(DATA)
            flags_seen.append(flags)
            await conversation.send(window_update(1, len(payload) or 1))
        await conversation.answer(1)
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    sending = asyncio.create_task(call.send(b"12345"))
    await asyncio.sleep(0)
    await call.half_close()
    await sending
    assert await call.receive() is None
    assert flags_seen == [0, 0, 0, END_STREAM]


async def test_the_sizes_of_frames_follow_the_settings(bench: Bench) -> None:
    sizes: list[int] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=2**20, frame=2**15)
        await conversation.send(window_update(0, 2**20))
        await conversation.request()
        sizes.extend(size for _, size in await content(conversation, 80_005))
        await conversation.answer(1)
        await peer.gone()

    _, channel = await bench.raw(script)
    await channel.connect(deadline=soon())
    call = await channel.open("/s/M", deadline=soon())
    await call.send(b"x" * 80_000, end=True)
    assert await call.receive() is None
    assert max(sizes) == 2**15


async def test_while_the_server_does_not_read_a_call_begins_all_the_same(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=2**24)
        await conversation.send(window_update(0, 2**24))
        first = await conversation.request()
        peer.transport.pause_reading()
        await peer.signal.wait()
        peer.transport.resume_reading()
        await conversation.answer(first, b"1")
        await conversation.answer_all()

    server, channel = await bench.raw(script)
    large = await channel.open("/s/M", deadline=soon())
    sending = asyncio.create_task(large.send(b"x" * 16_000_000))
    calls = [await channel.open("/s/M", deadline=soon()) for _ in range(3)]
    assert (channel.statistics().connections, channel.statistics().calls) == (1, 4)
    assert not sending.done()
    server.peers[0].signal.set()
    await sending
    assert await calls[-1].receive() == b"7"
    large.cancel()


async def test_a_sender_that_may_not_send_is_freed_by_the_deadline(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await Conversation.begin(peer, window=0)
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon(0.1))
    with pytest.raises(RequestTimeoutError, match="had not been sent completely"):
        await call.send(b"x")
    assert channel.statistics().calls == 0


async def test_a_sender_is_freed_when_the_server_ends_the_call(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, window=0)
        await conversation.request()
        await conversation.answer(1, b"never mind")
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    await call.send(b"x")
    assert [await call.receive(), await call.receive()] == [b"never mind", None]


async def test_what_is_read_may_be_followed_by_more(bench: Bench) -> None:
    """The windows are announced, and grow again as the content is read, padding included."""
    limits = SessionLimits(stream_window=1000, connection_window=100_000)
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        conversation = await Conversation.begin(peer)
        assert conversation.settings[WINDOW] == 1000
        _, _, _, more = await conversation.next(WINDOW_UPDATE)
        assert int.from_bytes(more) == 100_000 - 65_535
        await conversation.request()
        await conversation.send(headers(1))
        window, connection = 1000, 100_000
        one = b"\xff" + message(b"y" * 200) + b"\x00" * 255
        for _ in range(1000):
            while window < len(one) or connection < len(one):
                _, _, stream, more = await conversation.next(WINDOW_UPDATE)
                if stream:
                    window += int.from_bytes(more)
                else:
                    connection += int.from_bytes(more)
            window -= len(one)
            connection -= len(one)
            sent += 1
            await conversation.send(frame(DATA, PADDED, 1, one))
        await conversation.send(trailers(1))
        await peer.gone()

    _, channel = await bench.raw(script, limits=limits)
    call = await channel.open("/s/M", deadline=soon())
    assert await call.receive() == b"y" * 200
    for _ in range(999):
        assert await call.receive() == b"y" * 200
    assert await call.receive() is None
    assert sent == 1000


async def test_a_reader_that_does_not_read_is_sent_no_more_than_its_window(bench: Bench) -> None:
    limits = SessionLimits(stream_window=1000)
    allowed = 0

    async def script(peer: Peer) -> None:
        nonlocal allowed
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(headers(1), *(data(1, message(b"y" * 95)) for _ in range(10)))
        await nothing_more(conversation)
        _, _, stream, more = await conversation.next(WINDOW_UPDATE)
        assert stream == 1
        allowed = int.from_bytes(more)
        await conversation.send(trailers(1))
        await peer.gone()

    _, channel = await bench.raw(script, limits=limits)
    call = await channel.open("/s/M", deadline=soon())
    assert await call.receive() == b"y" * 95
    for _ in range(9):
        assert await call.receive() == b"y" * 95
    assert await call.receive() is None
    assert allowed == 500


async def test_a_message_larger_than_the_window_is_let_in_piece_by_piece(bench: Bench) -> None:
    limits = SessionLimits(stream_window=1000)

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(headers(1))
        rest, window = message(b"z" * 50_000), 1000
        while rest:
            while not window:
                _, _, stream, more = await conversation.next(WINDOW_UPDATE)
                window += int.from_bytes(more) if stream else 0
            await conversation.send(data(1, rest[:window]))
            rest, window = rest[window:], max(0, window - len(rest))
        await conversation.send(trailers(1))
        await peer.gone()

    _, channel = await bench.raw(script, limits=limits)
    call = await channel.open("/s/M", deadline=soon())
    assert await call.receive() == b"z" * 50_000
    assert await call.receive() is None


async def test_a_server_that_sends_more_than_the_stream_allows_loses_the_stream(
    bench: Bench,
) -> None:
    resets: list[bytes] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(headers(1), *(data(1, message(b"y" * 395)) for _ in range(3)))
        _, _, _, code = await conversation.next(RST_STREAM)
        resets.append(code)
        await conversation.answer_all()

    _, channel = await bench.raw(script, limits=SessionLimits(stream_window=1000))
    call = await channel.open("/s/M", deadline=soon())
    await wait_until(lambda: channel.statistics().calls == 0)
    assert [await call.receive(), await call.receive()] == [b"y" * 395] * 2
    with pytest.raises(BadResponseError, match="more content than it was allowed"):
        await call.receive()
    await wait_until(lambda: resets == [b"\x00\x00\x00\x03"])
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"3"


async def test_what_arrives_for_calls_that_were_given_up_weighs_on_no_window(
    bench: Bench,
) -> None:
    """Twice as much as the connection holds is sent to calls that nobody reads any more."""
    limits = SessionLimits(stream_window=60_000, connection_window=65_535)

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        window = 65_535
        for stream in (1, 3):
            await conversation.next(RST_STREAM)
            for _ in range(6):
                while window < 10_000:
                    _, _, number, more = await conversation.next(WINDOW_UPDATE)
                    window += int.from_bytes(more) if number == 0 else 0
                window -= 10_000
                await conversation.send(data(stream, b"z" * 10_000))
        await conversation.answer(5, b"5")
        await peer.gone()

    _, channel = await bench.raw(script, limits=limits)
    for _ in range(2):
        (await channel.open("/s/M", deadline=soon())).cancel()
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"5"
