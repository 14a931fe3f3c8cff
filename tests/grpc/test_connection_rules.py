"""The connection itself: settings, pings, farewells, and how many there are."""

from __future__ import annotations

import asyncio

import pytest

from batch_gateway.errors import (
    GatewayConnectionError,
    InferenceError,
    RequestTimeoutError,
    StaleConnectionError,
)
from batch_gateway.grpc.session import Session
from batch_gateway.grpc.session_limits import SessionLimits
from batch_gateway.wire.http2.frames import PREFACE
from tests.grpc.conftest import Bench, soon
from tests.grpc.raw_http2 import (
    ACK,
    DATA,
    GOAWAY,
    PING,
    RST_STREAM,
    SETTINGS,
    Conversation,
    data,
    frame,
    goaway,
    headers,
    message,
    settings,
    trailers,
)
from tests.http.native.raw_server import Peer, wait_until

pytestmark = pytest.mark.anyio


async def test_the_client_greets_keeps_no_table_and_wants_no_push(bench: Bench) -> None:
    seen: list[dict[int, int]] = []
    acks: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        seen.append(conversation.settings)
        acks.append(await conversation.next(SETTINGS))
        await conversation.send(frame(SETTINGS, ACK, 0))
        await conversation.answer_all()

    _, channel = await bench.raw(script)
    await channel.unary("/s/M", b"", deadline=soon())
    assert (seen[0][1], seen[0][2]) == (0, 0)
    assert acks == [(SETTINGS, ACK, 0, b"")]


async def test_pings_are_answered_and_their_answers_passed_over(bench: Bench) -> None:
    answers: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.send(frame(PING, ACK, 0, b"unasked!"), frame(PING, 0, 0, b"12345678"))
        answers.append(await conversation.next(PING))
        await conversation.answer_all()

    _, channel = await bench.raw(script)
    await channel.unary("/s/M", b"", deadline=soon())
    assert answers == [(PING, ACK, 0, b"12345678")]


async def test_a_server_that_speaks_before_it_is_spoken_to_is_greeted_first(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(settings() + frame(PING, 0, 0, b"12345678"))
        assert await peer.reader.readexactly(len(PREFACE)) == PREFACE
        await Conversation(peer).answer_all()

    _, channel = await bench.raw(script)
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"1"


async def test_a_server_of_http_1_is_recognised(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    _, channel = await bench.raw(script)
    with pytest.raises(GatewayConnectionError, match="it answered as an HTTP/1 server"):
        await channel.connect(deadline=soon())


async def test_a_server_that_hangs_up_at_once_is_a_lost_connection(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        peer.reset()

    _, channel = await bench.raw(script)
    with pytest.raises(GatewayConnectionError, match="the connection before answering"):
        await channel.connect(deadline=soon())


async def test_a_server_that_asks_and_does_not_read_is_left(bench: Bench) -> None:
    """Answers that nobody takes must not fill memory."""

    async def script(peer: Peer) -> None:
        await Conversation.begin(peer)
        pings = frame(PING, 0, 0, b"12345678") * 10_000
        peer.transport.pause_reading()
        while not peer.transport.is_closing():
            await peer.send(pings)

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon(30))
    with pytest.raises(InferenceError, match="does not read them|reset the connection"):
        await call.receive()


async def test_the_end_of_a_connection_ends_its_calls(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        first, _ = await conversation.request(), await conversation.request()
        await conversation.send(headers(first), data(first, message(b"one")))

    _, channel = await bench.raw(script)
    calls = [await channel.open("/s/M", deadline=soon()) for _ in range(2)]
    assert await calls[0].receive() == b"one"
    with pytest.raises(GatewayConnectionError, match="during the response"):
        await calls[0].receive()
    for attempt in (calls[1].receive(), calls[1].send(b"x")):
        with pytest.raises(GatewayConnectionError, match="before answering"):
            await attempt


async def test_an_idle_connection_that_was_closed_under_a_call_is_stale(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.answer(await conversation.request(), b"1")
        await conversation.next(RST_STREAM, DATA)
        await conversation.request()

    _, channel = await bench.raw(script)
    await channel.unary("/s/M", b"", deadline=soon())
    with pytest.raises(StaleConnectionError):
        await channel.unary("/s/M", b"", deadline=soon())


async def test_a_farewell_lets_calls_finish_fails_the_unseen_and_moves_new_ones(
    bench: Bench,
) -> None:
    leaving = asyncio.Event()

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        if len(server.peers) > 1:
            await conversation.answer_all()
        first, second = await conversation.request(), await conversation.request()
        await conversation.send(goaway(2**31 - 1))
        await conversation.send(goaway(first))
        await leaving.wait()
        await conversation.answer(first, b"finished")
        assert second == 3
        await peer.gone()

    server, channel = await bench.raw(script)
    seen, unseen = [await channel.open("/s/M", deadline=soon()) for _ in range(2)]
    with pytest.raises(StaleConnectionError, match="went away before it took the call") as caught:
        await unseen.receive()
    assert caught.value.code == "not_processed"
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"1"
    assert channel.statistics().connections == 2
    leaving.set()
    assert [await seen.receive(), await seen.receive()] == [b"finished", None]
    await wait_until(lambda: server.open == 1)
    assert channel.statistics().connections == 1


async def test_what_a_farewell_says_is_told(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(goaway(1, 11, b"too_many_pings\x00" + b"!" * 500))

    _, channel = await bench.raw(script)
    with pytest.raises(
        GatewayConnectionError, match=r"ENHANCE_YOUR_CALM: too_many_pings\?!+\)$"
    ) as caught:
        await channel.unary("/s/M", b"", deadline=soon())
    assert len(caught.value.message) < 200


async def test_a_server_that_always_says_farewell_is_not_dialled_without_end(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(settings() + goaway(0, 11, b"overloaded"))
        await peer.gone()

    server, channel = await bench.raw(script)
    with pytest.raises(GatewayConnectionError, match="ended the connection"):
        await channel.unary("/s/M", b"", deadline=soon())
    assert len(server.peers) == 1


async def test_a_connection_on_which_nothing_comes_is_given_no_more_calls(bench: Bench) -> None:
    """A host that is gone says nothing, and would swallow call after call."""

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        if len(server.peers) > 1:
            await conversation.answer_all()
        await peer.gone()

    server, channel = await bench.raw(script)
    waiting = await channel.open("/s/M", deadline=soon())
    with pytest.raises(RequestTimeoutError):
        await channel.unary("/s/M", b"", deadline=soon(0.05))
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"1"
    assert server.open == 2
    waiting.cancel()
    await wait_until(lambda: server.open == 1)
    assert channel.statistics().connections == 1


async def test_a_connection_on_which_other_calls_are_answered_is_kept(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        slow, quick = await conversation.request(), await conversation.request()
        await conversation.answer(quick, b"quick")
        assert slow == 1
        await conversation.answer_all()

    server, channel = await bench.raw(script)
    slow = await channel.open("/s/M", deadline=soon(0.2))
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"quick"
    with pytest.raises(RequestTimeoutError):
        await slow.receive()
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"5"
    assert len(server.peers) == 1


async def test_an_idle_connection_is_closed_after_its_time_and_made_anew(bench: Bench) -> None:
    farewells: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.answer(await conversation.request(), b"1")
        farewells.append(await conversation.next(GOAWAY))
        await peer.gone()

    server, channel = await bench.raw(script, idle_timeout=0.05)
    for times in (1, 2):
        assert await channel.unary("/s/M", b"", deadline=soon()) == b"1"
        await wait_until(lambda: server.open == 0)
        assert len(farewells) == times
        assert channel.statistics().connections == 0


async def test_when_stream_numbers_run_out_no_more_streams_are_opened() -> None:
    session = Session("peer:1", SessionLimits(), lambda: None, first_stream=2**31 - 3)
    session.greet()
    session.feed(settings())
    last = [session.open(b"", 1.0) for _ in range(2)][-1]
    assert (last.id, session.room, session.draining) == (2**31 - 1, 0, True)
    session.feed(headers(last.id) + data(last.id, message(b"1")) + trailers(last.id))
    assert (last.take(), last.over, last.error) == (b"1", True, None)


async def test_calls_beyond_the_servers_limit_wait_or_go_to_another_connection(
    bench: Bench,
) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, streams=2)
        while True:
            streams = [await conversation.request() for _ in range(2)]
            await peer.signal.wait()
            for stream in streams:
                await conversation.answer(stream, str(len(server.peers)).encode())

    server, channel = await bench.raw(script, max_connections=2)
    calls = [asyncio.create_task(channel.unary("/s/M", b"", deadline=soon())) for _ in range(8)]
    await wait_until(lambda: channel.statistics().calls == 4)
    await wait_until(lambda: channel.statistics().waiting == 4)
    assert channel.statistics().connections == 2
    for peer in server.peers:
        peer.signal.set()
    assert await asyncio.gather(*calls) == [b"2"] * 8
    assert len(server.peers) == 2


async def raises_its_limit(peer: Peer) -> None:
    """No call at first, then ten at once."""
    conversation = await Conversation.begin(peer, streams=0)
    await peer.signal.wait()
    await conversation.send(settings(streams=10))
    await conversation.answer_all()


async def test_a_call_is_not_waited_for_past_the_time_it_is_to_begin_by(bench: Bench) -> None:
    server, channel = await bench.raw(raises_its_limit, max_connections=1)
    with pytest.raises(RequestTimeoutError, match=r"no stream to 127.* became free in time"):
        await channel.open("/s/M", deadline=soon(), begin_by=soon(0.1))
    waiting = asyncio.create_task(channel.open("/s/M", deadline=soon(), begin_by=soon(5)))
    await wait_until(lambda: channel.statistics().waiting == 1)
    server.peers[0].signal.set()
    call = await waiting
    await call.send(b"", end=True)
    assert await call.receive() == b"1"
    call.cancel()


async def test_a_limit_that_is_raised_lets_waiting_calls_begin(bench: Bench) -> None:
    server, channel = await bench.raw(raises_its_limit, max_connections=1)
    with pytest.raises(RequestTimeoutError, match=r"no stream to 127.* became free in time"):
        await channel.unary("/s/M", b"", deadline=soon(0.1))
    calls = [asyncio.create_task(channel.unary("/s/M", b"", deadline=soon())) for _ in range(3)]
    await wait_until(lambda: channel.statistics().waiting == 3)
    server.peers[0].signal.set()
    assert await asyncio.gather(*calls) == [b"1", b"3", b"5"]


async def test_an_unreachable_server_fails_every_call_that_waits(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        await Conversation.begin(peer)

    server, channel = await bench.raw(script)
    await server.stop()
    results = await asyncio.gather(
        *(channel.unary("/s/M", b"", deadline=soon()) for _ in range(5)), return_exceptions=True
    )
    assert len({id(error) for error in results}) == 5
    for error in results:
        assert isinstance(error, GatewayConnectionError)
        assert "connection refused" in error.message
    assert channel.statistics().waiting == 0
