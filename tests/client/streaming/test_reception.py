"""Streams over real sockets: how they end, what they are instead, and what a client learns."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from batch_gateway import (
    BadResponseError,
    DeadlineExceededError,
    InferenceRequest,
    InvalidRequestError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from batch_gateway.client.interfaces.transport import PreparedRequest
from batch_gateway.client.streaming.gateway_habits import GatewayHabits
from batch_gateway.client.streaming.limits import StreamLimits
from batch_gateway.client.streaming.receive import Reception, StreamReader
from batch_gateway.http.exchange import LiveStream, QuickTaker
from batch_gateway.http.redaction import Redactor
from batch_gateway.wire.headers import Headers
from tests.client.manual_clock import ManualClock
from tests.client.streaming.scripted import (
    CHUNKED,
    EVENT_STREAM,
    REQUEST,
    Exchange,
    Script,
    answer_of,
    answer_to,
    asking,
    once,
    scripted,
)
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

CHOICE = b'{"index":0,"delta":{"content":"Hi"},"finish_reason":%b}'
GOING_ON = b'data: {"choices":[' + CHOICE % b"null" + b"]}\n\n"
ENDED = b'data: {"choices":[' + CHOICE % b'"stop"' + b"]}\n\n"
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
ANSWER = {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]}
WAYS = pytest.mark.parametrize("streamed", [False, True], ids=["generate", "stream"])


def chunked(*parts: bytes, whole: bool = True) -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return EVENT_STREAM + CHUNKED + body + (b"0\r\n\r\n" if whole else b"")


def text_of(response: Any) -> str:
    return response.json()["choices"][0]["message"]["content"]


# --- how a stream ends ---


@WAYS
@pytest.mark.parametrize("last", [b"", b"data: [DONE]", b"data: [DONE]\n"])
async def test_an_answer_whose_choices_have_ended_needs_no_last_word(
    last: bytes, *, streamed: bool
) -> None:
    length = len(ENDED + USAGE + last)
    for answer in (
        chunked(ENDED, USAGE, *([last] if last else [])),
        EVENT_STREAM + b"Content-Length: %d\r\n\r\n" % length + ENDED + USAGE + last,
        EVENT_STREAM + b"Connection: close\r\n\r\n" + ENDED + USAGE + last,
    ):
        response = await answer_to(once(answer), streamed=streamed)
        assert (text_of(response), response.attempts) == ("Hi", 1)
        assert response.usage is not None


@WAYS
@pytest.mark.parametrize(
    "answer",
    [
        chunked(GOING_ON),
        chunked(GOING_ON, whole=False),
        chunked(ENDED, whole=False),
        EVENT_STREAM + b"Content-Length: 9999\r\n\r\n" + ENDED,
        EVENT_STREAM + b"\r\n" + GOING_ON,
        EVENT_STREAM + b"\r\n" + ENDED[:-12],
    ],
)
async def test_a_stream_that_is_cut_is_no_answer(answer: bytes, *, streamed: bool) -> None:
    with pytest.raises(ServerError) as caught:
        await answer_to(once(answer), streamed=streamed)
    assert caught.value.is_retryable


@pytest.mark.parametrize(
    "params",
    [
        {"n": 2, "messages": []},
        {"prompt": ["a", "b"]},
        {"prompt": [[1, 2], [3]]},
        {"prompt": "a", "n": 2},
    ],
)
async def test_without_a_last_word_all_choices_that_were_asked_for_must_be_there(
    params: dict[str, Any],
) -> None:
    request = InferenceRequest(params={"model": "m", **params})
    events = (
        ENDED
        if "messages" in params
        else ENDED.replace(b'"delta":{"content":"Hi"}', b'"text":"Hi"')
    )
    with pytest.raises(BadResponseError) as caught:
        await answer_to(once(chunked(events)), request=request)
    assert caught.value.code == "incomplete_stream"
    said_so = await answer_to(once(chunked(events, DONE)), request=request)
    assert len(said_so.json()["choices"]) == 1


@WAYS
@pytest.mark.parametrize(
    "heartbeat", [b": ping\n\n", b"\n", b'data: {"type":"ping"}\n\n', b"event: ping\ndata: 1\n\n"]
)
async def test_heartbeats_do_not_keep_an_answer_that_has_ended(
    heartbeat: bytes, *, streamed: bool
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENT_STREAM + CHUNKED)
        await exchange.send_chunk(ENDED + USAGE)
        while True:
            await exchange.send_chunk(heartbeat)
            await asyncio.sleep(0.02)

    response = await answer_to(script, streamed=streamed, stream_idle_timeout=0.2)
    assert (text_of(response), response.attempts) == ("Hi", 1)
    assert response.usage is not None


async def test_an_answer_that_has_ended_outlives_the_silence_after_it() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENT_STREAM + CHUNKED)
        await exchange.send_chunk(ENDED)
        await asyncio.sleep(30)

    assert text_of(await answer_to(script, stream_idle_timeout=0.2)) == "Hi"


@pytest.mark.parametrize(
    ("choices", "first", "last"),
    [(1, [GOING_ON], ENDED), (2, [GOING_ON, ENDED], ENDED.replace(b'"index":0', b'"index":1'))],
    ids=["that has begun", "that has not begun"],
)
async def test_heartbeats_are_life_as_long_as_a_choice_goes_on(
    choices: int, first: list[bytes], last: bytes
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENT_STREAM + CHUNKED)
        for event in first:
            await exchange.send_chunk(event)
            await asyncio.sleep(0.02)
        for _ in range(20):
            await exchange.send_chunk(b": ping\n\n")
            await asyncio.sleep(0.02)
        await exchange.send_chunk(last + DONE)
        await exchange.send(b"0\r\n\r\n")

    request = InferenceRequest(params={"model": "m", "messages": [], "n": choices})
    response = await answer_to(script, request=request, stream_idle_timeout=0.2)
    assert text_of(response) == "HiHi"


class Relayed(LiveStream):
    """Hands on an ended answer and then heartbeats, one a second, whatever `take` allows."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self._reads = [GOING_ON]
        self._pieces = [ENDED, *[b": ping\n\n"] * 1_000]
        self.status_code = 200
        self.headers = Headers([(b"content-type", b"text/event-stream")])

    @property
    def is_over(self) -> bool:
        return False

    async def read(self) -> bytes:
        if not self._reads:
            await asyncio.get_running_loop().create_future()
        return self._reads.pop()

    async def hand_on(
        self, take: Callable[[bytes], float], most: int, quick: QuickTaker | None = None
    ) -> bool:
        while take(self._pieces.pop(0)):
            self._clock.advance(1.0)
        self._reads.append(b"")
        return True


async def test_a_stream_that_does_not_look_at_the_time_keeps_no_answer_that_has_ended() -> None:
    clock = ManualClock()
    limits = StreamLimits(idle_timeout=10.0, max_event_bytes=10**6, max_response_bytes=10**6)
    request = PreparedRequest(
        request_id="r", model="m", endpoint="/v1/chat/completions", body=b"{}"
    )
    reader = StreamReader(clock, Redactor(()), limits, GatewayHabits())
    reception = Reception(reader, request, clock.now, clock.now + 10.0)
    response = await reception.run(Relayed(clock))
    assert text_of(response) == "HiHi"
    assert clock.now == 1010.0


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json"])
@pytest.mark.parametrize("start", [b"", GOING_ON])
async def test_blanks_are_no_life(kind: bytes, start: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n"
        await exchange.send(head + CHUNKED)
        if start:
            await exchange.send_chunk(start)
        while True:
            await exchange.send_chunk(b" \n")
            await asyncio.sleep(0.02)

    with pytest.raises(RequestTimeoutError):
        await answer_to(script, timeout=0.3, stream_idle_timeout=0.3)


@pytest.mark.parametrize("start", [GOING_ON, GOING_ON[:-9]], ids=["an event", "half an event"])
async def test_a_stream_that_stands_still_is_said_to(start: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENT_STREAM + CHUNKED)
        await exchange.send_chunk(start)
        await asyncio.Event().wait()

    with pytest.raises(RequestTimeoutError, match="sent nothing for 100ms in the middle"):
        await answer_to(script, stream_idle_timeout=0.1)


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json", b"text/plain"])
@pytest.mark.parametrize("filler", [b" ", b"\n", b"\r\n", b": x\n", b"data: null\n\n", b"x: 1\n"])
async def test_a_body_that_says_nothing_is_given_up_at_its_limit(
    kind: bytes, filler: bytes
) -> None:
    async def script(exchange: Exchange) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\n"
        await exchange.send(head + CHUNKED)
        while True:
            await exchange.send_chunk(filler * 5000)

    with pytest.raises(BadResponseError, match="max_response_bytes"):
        await answer_to(script, max_response_bytes=200_000)


# --- what is no stream ---


@WAYS
async def test_an_event_stream_that_is_one_json_answer_is_read_as_that(*, streamed: bool) -> None:
    for body in (json.dumps(ANSWER), json.dumps(ANSWER, indent=2), " \n" + json.dumps(ANSWER)):
        answer = EVENT_STREAM + b"\r\n" + body.encode()
        response = await answer_to(once(answer), streamed=streamed)
        assert text_of(response) == "Hi"


@WAYS
@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"too many","code":429}}',
        b'{\n  "error": {\n "message": "too many", "code": "rate_limit_exceeded"}\n}',
        b'[{"error":{"message":"too many","code":429,"status":"RESOURCE_EXHAUSTED"}}]',
        b'\xef\xbb\xbf{"error":{"message":"too many","code":429}}',
        b'data: {"error":{"message":"too many","code":429}}\n\n',
        b'error: {"message":"too many","code":429}\n\n',
        b': wait\n\n{"error":{"message":"too many","code":429}}\n',
    ],
)
async def test_an_error_in_a_stream_of_status_200_has_its_words_and_category(
    body: bytes, *, streamed: bool
) -> None:
    with pytest.raises(RateLimitError, match="too many") as caught:
        await answer_to(once(EVENT_STREAM + b"\r\n" + body), streamed=streamed)
    assert caught.value.is_retryable


@WAYS
@pytest.mark.parametrize("form", [b"data: %b\n\n", b"event: error\ndata: %b\n\n", b"error: %b\n\n"])
async def test_a_refusal_may_be_an_event(form: bytes, *, streamed: bool) -> None:
    body = form % b'{"error":{"message":"too long","code":"context_length_exceeded"}}'
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/event-stream\r\n"
    answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with pytest.raises(InvalidRequestError, match="HTTP 400: too long") as caught:
        await answer_to(once(answer), streamed=streamed)
    assert (caught.value.code, caught.value.attempts) == ("context_length_exceeded", 1)


# --- what a client learns of a gateway ---


def open_after_done() -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.send(EVENT_STREAM + CHUNKED)
        await exchange.send_chunk(ENDED + DONE)
        await exchange.writer.wait_closed()

    return script


async def test_a_body_that_stays_open_after_its_last_word_is_waited_for_once() -> None:
    async with scripted(open_after_done()) as server, asking(server.url) as client:
        began = time.monotonic()
        for _ in range(20):
            assert text_of(await client.generate(REQUEST)) == "Hi"
        # One second for the first, and none for the others.
        assert time.monotonic() - began < 10


async def test_a_connection_is_used_again_when_its_body_ends_with_the_last_word() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(chunked(ENDED, DONE))

    async with scripted(script) as server, asking(server.url) as client:
        for _ in range(5):
            await client.generate(REQUEST)
        assert server.connections == 1


REFUSALS = [
    (400, {"error": {"message": "Unrecognized request argument supplied: stream_options"}}),
    (422, {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs not permitted"}]}),
    (400, {"message": "property 'include_usage' is not supported"}),
    (200, {"error": {"message": "unknown field stream_options", "code": 400}}),
]


def refusing_options(status: int, said: dict[str, Any]) -> Script:
    async def script(exchange: Exchange) -> None:
        if exchange.body.get("stream_options"):
            body = json.dumps(said).encode()
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\n" % status
            await exchange.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        else:
            await exchange.send(chunked(ENDED, DONE))

    return script


@WAYS
@pytest.mark.parametrize(("status", "said"), REFUSALS)
async def test_a_gateway_that_refuses_stream_options_is_asked_without_from_then_on(
    status: int, said: dict[str, Any], *, streamed: bool
) -> None:
    async with scripted(refusing_options(status, said)) as server, asking(server.url) as client:
        for _ in range(3):
            if streamed:
                stream = client.stream(REQUEST)
                assert [chunk.text async for chunk in stream] == ["Hi"]
                assert stream.response is not None
                assert stream.response.attempts == 1
            else:
                assert (await client.generate(REQUEST)).attempts == 1
    options = [body.get("stream_options") for body in server.bodies]
    assert options == [{"include_usage": True}, None, None, None]


async def test_options_that_the_request_asks_for_are_not_taken_out() -> None:
    asked = InferenceRequest(
        params={"model": "m", "messages": [], "stream_options": {"include_usage": True}}
    )
    script = refusing_options(*REFUSALS[0])
    async with scripted(script) as server, asking(server.url, retry=QUICK) as client:
        with pytest.raises(InvalidRequestError):
            await client.generate(asked)
    assert len(server.bodies) == 1


async def test_what_is_no_json_here_is_sent_as_it_is_where_options_are_refused() -> None:
    async def script(exchange: Exchange) -> None:
        status, said = REFUSALS[0] if exchange.body.get("stream_options") else (200, ANSWER)
        body = json.dumps(said).encode()
        await exchange.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)))
        await exchange.send(body)

    chat, body = "/v1/chat/completions", b'{"messages":[],"top_p":NaN}'
    request = InferenceRequest(params=body, model="m", endpoint=chat)
    async with scripted(script) as server, asking(server.url) as client:
        assert text_of(await client.generate(request)) == "Hi"
        assert text_of(await client.generate(REQUEST)) == "Hi"
    # Nothing was learnt from it about other requests.
    options = [body.get("stream_options") for body in server.bodies]
    assert options == [{"include_usage": True}, None, {"include_usage": True}, None]


@WAYS
async def test_a_refusal_that_quotes_the_options_is_not_taken_for_one_of_them(
    *, streamed: bool
) -> None:
    async def script(exchange: Exchange) -> None:
        if exchange.body["model"] == "m":
            await exchange.send(chunked(ENDED, DONE))
        else:
            body = json.dumps({"detail": "unknown model", "input": exchange.body}).encode()
            await exchange.send(b"HTTP/1.1 400 X\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    unknown = InferenceRequest(params={"model": "other", "messages": []})
    async with scripted(script) as server, asking(server.url) as client:
        with pytest.raises(InvalidRequestError, match="unknown model"):
            await answer_of(client, unknown, streamed=streamed)
        assert text_of(await answer_of(client, REQUEST, streamed=streamed)) == "Hi"
    options = [body.get("stream_options") for body in server.bodies]
    assert options == [{"include_usage": True}, None, {"include_usage": True}]


async def test_another_refusal_is_not_sent_again() -> None:
    said = {"error": {"message": "the model does not exist"}}
    async with scripted(refusing_options(400, said)) as server, asking(server.url) as client:
        with pytest.raises(InvalidRequestError):
            await client.generate(REQUEST)
    assert len(server.bodies) == 1


# --- what unpacks to much ---

TINY = [b"data: {}\n\n", b": x\n", b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n']


def packed(event: bytes, size: int) -> bytes:
    body = gzip.compress(event * (size // len(event)))
    return EVENT_STREAM + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.parametrize("event", TINY)
async def test_others_have_their_turn_while_a_small_body_unpacks_to_much(event: bytes) -> None:
    turns, size = 0, 3_000_000

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    try:
        with pytest.raises(BadResponseError):
            await answer_to(once(packed(event, size)))
    finally:
        counting.cancel()
    assert turns > size / 64 / 1024


@pytest.mark.parametrize("event", TINY)
async def test_a_deadline_holds_for_what_has_come_already(event: bytes) -> None:
    request = InferenceRequest(params=REQUEST.params, deadline=0.05)
    with pytest.raises(DeadlineExceededError):
        await answer_to(once(packed(event, 60_000_000)), request=request)
