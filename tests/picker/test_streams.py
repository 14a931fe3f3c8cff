"""Streamed answers through an endpoint picker: handed on as they come, and ended as they end."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from batch_gateway import (
    EndpointPickerConfig,
    HTTPInferenceClient,
    HTTPInferenceClientConfig,
    InferenceRequest,
    RateLimitError,
    ServerError,
)
from tests.picker.pod import Received, running_pod, whole
from tests.picker.scripted_picker import Talk, scripted_picker
from tests.quick_retry import QUICK

pytestmark = pytest.mark.anyio

LIMIT_S = 60.0


def client(url: str, **settings: Any) -> HTTPInferenceClient:
    settings = {"retry": None, "timeout": LIMIT_S, "stream_idle_timeout": LIMIT_S, **settings}
    return HTTPInferenceClient(HTTPInferenceClientConfig(url, **settings))


def request() -> InferenceRequest:
    return InferenceRequest(params={"model": "m", "prompt": "Hi"}, endpoint="/v1/completions")


def event(text: str, model: str = "tuned") -> bytes:
    choice = {"index": 0, "text": text, "finish_reason": None}
    return f"data: {json.dumps({'id': 'c', 'model': model, 'choices': [choice]})}\n\n".encode()


DONE = (
    b'data: {"id":"c","choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Dictation:
    """A pod's streamed answer that a test dictates piece by piece."""

    def __init__(self) -> None:
        self.writes: asyncio.Queue[tuple[bytes, ...]] = asyncio.Queue()
        self.written = 0

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.say_at_once(piece)

    def say_at_once(self, *pieces: bytes) -> None:
        self.writes.put_nowait(pieces)

    async def __call__(self, writer: asyncio.StreamWriter, _: Received) -> None:
        writer.write(HEAD)
        while True:
            pieces = await self.writes.get()
            writer.write(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
            await writer.drain()
            self.written += sum(map(len, pieces))
            if not pieces[-1]:
                return


def relaying(endpoint: str, rewrite: bool = True) -> Any:
    async def script(talk: Talk) -> None:
        await talk.pass_to(endpoint)
        await talk.echo(rewrite=lambda b: b.replace(b"tuned", b"m") if rewrite else b)

    return script


async def test_chunks_are_handed_on_while_the_answer_is_being_generated() -> None:
    pod_says = Dictation()
    writes = [["one"], ["two"], ["three"], ["four", "five"], ["six"]]
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint)) as picker,
        client(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        texts: list[str] = []
        for write in writes:
            # Each is said only once the one before it has arrived here.
            pod_says.say_at_once(*map(event, write))
            for _ in write:
                chunk = await anext(stream)
                texts.append(chunk.text)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownArgumentType, reportUnknownMemberType]
        pod_says.say(DONE, b"")
        async for _ in stream:
            pass
        await picker.all_ended()
    assert texts == ["one", "two", "three", "four", "five", "six"]
    assert stream.response is not None
    assert stream.response.json()["model"] == "m"
    reported = [m.response_body for m in picker.talks[0].heard if m.HasField("response_body")]
    told = [b"".join(map(event, write)) for write in writes]
    assert [piece.body for piece in reported][: len(told)] == told
    assert [piece.end_of_stream for piece in reported][-1]
    assert picker.ends == ["ended"]


@pytest.mark.parametrize("streams", [True, False], ids=["chunks", "whole"])
async def test_what_is_changed_amid_events_that_come_back_as_they_were_is_changed(
    streams: bool,
) -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.echo(rewrite=lambda body: body.replace(b" 7", b" seven"))

    words = [f" {number}" for number in range(12)]
    pod_says = Dictation()
    pod_says.say(*map(event, words), DONE, b"")
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        client(picker.url, stream_upstream=True) as one,
        asyncio.timeout(LIMIT_S),
    ):
        for _ in range(3):
            # The later ones are read by what was learnt of those before.
            if streams:
                stream = one.stream(request())
                async for _ in stream:
                    pass
                response = stream.response
            else:
                response = await one.generate(request())
            assert response is not None
            said = response.json()["choices"][0]["text"]
            assert said == "".join(words).replace(" 7", " seven")
            pod_says.say(*map(event, words), DONE, b"")


async def test_an_answer_that_is_asked_for_in_a_stream_is_put_together() -> None:
    pod_says = Dictation()
    pod_says.say(event("one "), event("two"), DONE, b"")
    async with running_pod(pod_says) as pod, scripted_picker(relaying(pod.endpoint)) as picker:
        async with client(picker.url, stream_upstream=True) as one:
            response = await one.generate(request())
        await picker.all_ended()
    assert response.json()["choices"][0]["text"] == "one two"
    assert response.time_to_first_token is not None


async def test_a_picker_may_keep_an_answer_that_is_no_event_stream_to_its_end() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        body = b""
        while message := await talk.read():
            body += message.response_body.body
            if message.HasField("response_headers"):
                await talk.say(response_headers={})
            elif message.response_body.end_of_stream:
                await talk.send_body(body.replace(b"tuned", b"m"), "response_body")

    body = b'{"model":"tuned","choices":[{"index":0,"text":"%s"}]}' % (b"y" * 300_000)
    async with running_pod(whole(body)) as pod, scripted_picker(script) as picker:
        async with client(picker.url, stream_upstream=True) as one:
            response = await one.generate(request())
        await picker.all_ended()
    assert response.body == body.replace(b"tuned", b"m")


async def test_an_eviction_in_the_middle_ends_the_stream_with_its_reason() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        while message := await talk.read():
            if message.HasField("response_headers"):
                await talk.say(response_headers={})
                continue
            streamed = {"body": message.response_body.body}
            await talk.say(
                response_body={"response": {"body_mutation": {"streamed_response": streamed}}}
            )
            await seen.wait()
            await talk.refuse(429, "evicted-priority", b"request evicted by flow control")
            return

    seen, pod_says = asyncio.Event(), Dictation()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        client(picker.url, retry=QUICK) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        pod_says.say(event("one"))
        await anext(stream)
        seen.set()
        with pytest.raises(RateLimitError, match="request evicted") as caught:
            await anext(stream)
        await pod.lost.wait()
        await picker.all_ended()
    assert caught.value.dropped_reason == "evicted-priority"
    assert len(pod.received) == 1


async def test_an_eviction_before_the_first_chunk_is_retried() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        if len(picker.talks) == 1:
            await pod.arrived.wait()
            await talk.refuse(429, "evicted")
            return
        pod_says.say(event("one"), DONE, b"")
        await talk.echo()

    pod_says = Dictation()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        client(picker.url, retry=QUICK) as one,
        asyncio.timeout(LIMIT_S),
    ):
        chunks = [chunk async for chunk in one.stream(request())]
        await picker.all_ended()
    assert len(chunks) >= 2
    assert len(picker.talks) == 2


async def test_a_refusal_ends_a_stream_before_it_begins() -> None:
    async def script(talk: Talk) -> None:
        await talk.question()
        await talk.refuse(503, "rejected-no-endpoints", b"no pods")

    async with scripted_picker(script) as picker, client(picker.url) as one:
        with pytest.raises(ServerError, match="HTTP 503: no pods") as caught:
            await anext(one.stream(request()))
        await picker.all_ended()
    assert caught.value.dropped_reason == "rejected-no-endpoints"


async def test_a_picker_that_falls_silent_is_passed_by_after_a_while() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        while await talk.read():
            pass

    pod_says = Dictation()
    async with running_pod(pod_says) as pod, scripted_picker(script) as picker:
        settings = EndpointPickerConfig(echo_timeout=0.1)
        async with client(picker.url, endpoint_picker=settings) as one, asyncio.timeout(LIMIT_S):
            stream = one.stream(request())
            pod_says.say(event("one"))
            await anext(stream)
            pod_says.say(event("two"), DONE, b"")
            rest = [chunk async for chunk in stream]
            await picker.all_ended()
    assert len(rest) >= 2


async def test_a_picker_that_leaves_in_the_middle_does_not_take_the_answer_with_it() -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        message = await talk.read()
        assert message is not None
        streamed = {"body": message.response_body.body}
        await talk.say(
            response_body={"response": {"body_mutation": {"streamed_response": streamed}}}
        )

    pod_says = Dictation()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        client(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        pod_says.say(event("one"))
        await anext(stream)
        await picker.all_ended()
        pod_says.say(event("two"), DONE, b"")
        rest = [chunk async for chunk in stream]
    assert len(rest) >= 2
    assert stream.response is not None
    assert stream.response.json()["choices"][0]["text"] == "onetwo"


async def test_leaving_a_stream_closes_the_pods_connection_and_the_pickers_stream() -> None:
    pod_says = Dictation()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint)) as picker,
        client(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        async with one.stream(request()) as stream:
            pod_says.say(event("one"))
            await anext(stream)
        await pod.lost.wait()
        await picker.all_ended()


async def test_a_reader_that_is_behind_holds_up_the_pod() -> None:
    written = 0

    async def endless(writer: asyncio.StreamWriter, _: Received) -> None:
        nonlocal written
        writer.write(HEAD)
        piece = event("y" * 40_000)
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            written += len(piece)

    async with (
        running_pod(endless) as pod,
        scripted_picker(relaying(pod.endpoint, rewrite=False)) as picker,
        client(picker.url) as one,
        asyncio.timeout(LIMIT_S),
        one.stream(request()) as stream,
    ):
        await anext(stream)
        before = -1
        while before != written:
            before = written
            await asyncio.sleep(0.1)
        # What sockets and windows on three connections hold, and then no more.
        for _ in range(50):
            await anext(stream)


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "deaf"])
async def test_a_long_stream_loses_nothing_to_a_picker_that_does_not_hand_it_back(
    listens: bool,
) -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        while listens and await talk.read():
            pass
        if not listens:
            await asyncio.Event().wait()

    pod_says = Dictation()
    pod_says.say(*[event("y" * 40_000)] * 100, DONE, b"")
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        client(picker.url, endpoint_picker=EndpointPickerConfig(echo_timeout=0.2)) as one,
        asyncio.timeout(LIMIT_S),
    ):
        assert len([chunk async for chunk in one.stream(request())]) >= 100
        await picker.all_ended()
