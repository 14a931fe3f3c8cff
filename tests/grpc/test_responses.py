"""What a server may answer, and what each answer is to the caller."""

from __future__ import annotations

import pytest

from batch_gateway.errors import BadResponseError, GatewayConnectionError
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.grpc.grpc_call import Call
from batch_gateway.grpc.session_limits import SessionLimits
from tests.grpc.conftest import Bench, soon
from tests.grpc.raw_http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    HEADERS,
    OK_HEADERS,
    PADDED,
    PRIORITISED,
    PRIORITY,
    RST_STREAM,
    Conversation,
    block,
    data,
    frame,
    headers,
    message,
    reset,
    trailers,
)
from tests.http.native.raw_server import Peer, wait_until

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """What bytes mean is the same on every event loop."""
    return "asyncio"


async def received(bench: Bench, *frames: bytes) -> list[bytes]:
    """The messages of a call that a server answers so, on stream 1; raises as the call does."""

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(*frames)
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    await call.half_close()
    messages = await all_of(call)
    assert channel.statistics().calls == 0
    return messages


async def all_of(call: Call) -> list[bytes]:
    messages: list[bytes] = []
    while (one := await call.receive()) is not None:
        messages.append(one)
    return messages


async def test_messages_are_cut_out_of_frames_however_they_lie_in_them(bench: Bench) -> None:
    content = message(b"one") + message(b"") + message(b"x" * 40_000)
    pieces = [content[:2], content[2:7], content[7:14], b"", content[14:16_000], content[16_000:]]
    found = await received(bench, headers(1), *(data(1, piece) for piece in pieces), trailers(1))
    assert found == [b"one", b"", b"x" * 40_000]


async def test_padding_and_priorities_are_passed_over(bench: Bench) -> None:
    head = block(OK_HEADERS)
    padded = frame(
        HEADERS,
        END_HEADERS | PADDED | PRIORITISED,
        1,
        b"\x03" + b"\x80\x00\x00\x00\x10" + head + b"\x00" * 3,
    )
    content = frame(DATA, PADDED, 1, b"\x05" + message(b"one") + b"\x00" * 5)
    unknown = frame(PRIORITY, 0, 1, b"\x00" * 5) + frame(0xEE, 0xFF, 1, b"what?")
    assert await received(bench, padded, unknown, content, trailers(1)) == [b"one"]


async def test_headers_may_be_spread_over_frames(bench: Bench) -> None:
    head = block((*OK_HEADERS, ("x-long", "v" * 30_000)))
    frames = (
        frame(HEADERS, 0, 1, head[:10]),
        frame(CONTINUATION, 0, 1, b""),
        frame(CONTINUATION, 0, 1, head[10:20_000]),
        frame(CONTINUATION, END_HEADERS, 1, head[20_000:]),
    )
    assert await received(bench, *frames, data(1, message(b"one")), trailers(1)) == [b"one"]


async def test_interim_responses_are_passed_over(bench: Bench) -> None:
    interim = headers(1, ((":status", "103"), ("link", "x")))
    assert await received(bench, interim, headers(1), trailers(1)) == []


async def test_a_response_may_consist_of_trailers_alone(bench: Bench) -> None:
    assert await received(bench, headers(1, (*OK_HEADERS, ("grpc-status", "0")), end=True)) == []
    failed = (*OK_HEADERS, ("grpc-status", "13"), ("grpc-message", "no%20such%C3%9F%zz"))
    with pytest.raises(GrpcStatusError) as caught:
        await received(bench, headers(1, failed, end=True))
    assert (caught.value.code, caught.value.message) == (13, "no suchß%zz")


async def test_what_came_before_a_failure_is_received_first(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        bad = trailers(1, (("grpc-status", "14"), ("grpc-message", "shutting down")))
        await conversation.send(headers(1), data(1, message(b"one")), bad)
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    assert await call.receive() == b"one"
    for _ in range(2):
        with pytest.raises(GrpcStatusError, match="shutting down"):
            await call.receive()


async def test_a_status_that_is_no_number_is_unknown(bench: Bench) -> None:
    with pytest.raises(GrpcStatusError) as caught:
        await received(bench, headers(1), trailers(1, (("grpc-status", "fine"),)))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        pytest.param([headers(1), trailers(1, (("x", "y"),))], "without a status", id="no status"),
        pytest.param([headers(1), data(1, message(b"a"), end=True)], "without a status", id="data"),
        pytest.param([headers(1, end=True)], "without a status", id="headers alone"),
        pytest.param(
            [headers(1), data(1, message(b"abc")[:-1]), trailers(1)],
            "in the middle of a message",
            id="cut short",
        ),
        pytest.param(
            [headers(1), data(1, b"\x01\x00\x00\x00\x01a"), trailers(1)], "compressed", id="flag"
        ),
        pytest.param(
            [headers(1, (*OK_HEADERS, ("grpc-encoding", "gzip")))], "compresses", id="encoding"
        ),
        pytest.param(
            [headers(1, ((":status", "200"), ("content-type", "text/html")))],
            "did not answer as gRPC .*text/html",
            id="page",
        ),
        pytest.param(
            [headers(1), data(1, b"\x00\x00\x00\x10\x00")], "4096 bytes, where 1000", id="size"
        ),
        pytest.param([data(1, message(b"a"))], "content before headers", id="order"),
        pytest.param([headers(1), headers(1)], "in the middle of a response", id="two heads"),
        pytest.param([headers(1, (("a", "b"),))], "without a status", id="no :status"),
        pytest.param(
            [headers(1, (("a", "b"), (":status", "200")))], "misplaced ':status'", id="late"
        ),
        pytest.param([headers(1, ((":path", "/"),))], "misplaced ':path'", id="request"),
        pytest.param([headers(1, ((":status", "2x0"),))], "not a number", id="status"),
        pytest.param([headers(1, (*OK_HEADERS, ("A", "b")))], "not in lower case", id="case"),
        pytest.param([headers(1, ((":status", "100"),), end=True)], "before it begins", id="100"),
    ],
)
async def test_what_is_no_good_answer_ends_that_call_alone(
    bench: Bench, frames: list[bytes], says: str
) -> None:
    ended: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.request()
        await conversation.send(*frames)
        ended.append(await conversation.next(RST_STREAM))
        await conversation.answer_all()

    _, channel = await bench.raw(script, limits=SessionLimits(max_message=1000))
    call = await channel.open("/s/M", deadline=soon())
    with pytest.raises(BadResponseError, match=rf"127\.0\.0\.1:\d+ .*{says}"):
        await all_of(call)
    assert await channel.unary("/s/M", b"", deadline=soon()) == b"3"
    assert [stream for _, _, stream, _ in ended] == [1]
    assert channel.statistics().connections == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [("400", 13), ("401", 16), ("403", 7), ("404", 12), ("429", 14), ("503", 14), ("302", 2)],
)
async def test_an_http_status_stands_for_the_status_that_grpc_maps_it_to(
    bench: Bench, status: str, code: int
) -> None:
    for end in (False, True):
        with pytest.raises(GrpcStatusError, match=f"answered HTTP {status}") as caught:
            await received(bench, headers(1, ((":status", status),), end=end))
        assert caught.value.code == code


async def test_a_status_of_grpc_weighs_more_than_one_of_http(bench: Bench) -> None:
    fields = ((":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "8"))
    with pytest.raises(GrpcStatusError) as caught:
        await received(bench, headers(1, fields, end=True))
    assert caught.value.code == 8


@pytest.mark.parametrize(("code", "status"), [(0, 13), (1, 13), (8, 1), (11, 8), (12, 7), (99, 13)])
async def test_a_reset_stands_for_the_status_that_grpc_maps_it_to(
    bench: Bench, code: int, status: int
) -> None:
    with pytest.raises(GrpcStatusError, match="reset the call") as caught:
        await received(bench, headers(1), reset(1, code))
    assert caught.value.code == status


async def test_a_refused_stream_was_not_processed(bench: Bench) -> None:
    with pytest.raises(GatewayConnectionError, match="refused the call unseen") as caught:
        await received(bench, reset(1, 7))
    assert caught.value.code == "not_processed"
    assert caught.value.is_retryable


async def test_a_call_that_the_server_ends_first_is_closed_on_this_side_too(bench: Bench) -> None:
    ended: list[tuple[int, int, int, bytes]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        stream = await conversation.request()
        await conversation.answer(stream, b"enough")
        ended.append(await conversation.next(RST_STREAM))
        await peer.gone()

    _, channel = await bench.raw(script)
    call = await channel.open("/s/M", deadline=soon())
    assert [await call.receive(), await call.receive()] == [b"enough", None]
    await call.send(b"more")
    await call.half_close()
    call.cancel()
    await wait_until(lambda: bool(ended))
    assert ended == [(RST_STREAM, 0, 1, b"\x00\x00\x00\x00")]


async def test_several_messages_are_no_answer_to_a_unary_call(bench: Bench) -> None:
    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        await conversation.answer(await conversation.request(), b"1", b"2")
        await conversation.answer(await conversation.request())
        await peer.gone()

    _, channel = await bench.raw(script)
    with pytest.raises(BadResponseError, match="several messages"):
        await channel.unary("/s/M", b"", deadline=soon())
    with pytest.raises(BadResponseError, match="no message"):
        await channel.unary("/s/M", b"", deadline=soon())


async def test_the_head_of_a_call_is_what_grpc_asks_for(bench: Bench) -> None:
    import hpack

    heads: list[dict[str, str]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer, table=0)
        decoder = hpack.Decoder()
        decoder.max_allowed_table_size = 0
        for _ in range(2):
            _, flags, stream, payload = await conversation.next(HEADERS)
            assert flags == END_HEADERS
            fields = decoder.decode(payload, raw=True)
            heads.append({bytes(name).decode(): bytes(value).decode() for name, value in fields})
            await conversation.answer(stream, b"1")
        await peer.gone()

    server, channel = await bench.raw(script)
    for _ in range(2):
        await channel.unary("/s/M", b"", deadline=soon(60))
    for head in heads:
        assert head.pop("grpc-timeout").endswith("m")
        assert head.pop("user-agent").startswith("batch-gateway/")
        assert head == {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/s/M",
            ":authority": f"127.0.0.1:{server.port}",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-accept-encoding": "identity",
        }


async def test_a_head_larger_than_a_frame_continues_in_others(bench: Bench) -> None:
    sizes: list[tuple[int, int, int]] = []

    async def script(peer: Peer) -> None:
        conversation = await Conversation.begin(peer)
        while not sizes or not sizes[-1][1] & END_HEADERS:
            kind, flags, _, payload = await conversation.next(HEADERS, CONTINUATION)
            sizes.append((kind, flags, len(payload)))
        await conversation.answer(1, b"1")
        await peer.gone()

    _, channel = await bench.raw(script)
    metadata = [("x-long", "v" * 40_000)]
    call = await channel.open("/s/M", metadata=metadata, deadline=soon())
    assert await call.receive() == b"1"
    assert [(kind, flags) for kind, flags, _ in sizes] == [
        (HEADERS, 0),
        (CONTINUATION, 0),
        (CONTINUATION, END_HEADERS),
    ]
    assert sizes[0][2] == sizes[1][2] == 16_384
