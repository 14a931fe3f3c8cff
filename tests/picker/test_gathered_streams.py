"""Fast answers through an endpoint picker: told together, and none the less whole and in time.

With an interval of minutes nothing is reported because time is up, so that what is gathered when
something happens does not depend on how fast that is.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from batch_gateway import (
    BadResponseError,
    DeadlineExceededError,
    EndpointPickerConfig,
    HTTPInferenceClient,
    InferenceError,
    InferenceRequest,
    InferenceStream,
)
from tests.picker.asking import LIMIT_S
from tests.picker.pod import Received, running_pod
from tests.picker.scripted_picker import ScriptedPicker, Talk, scripted_picker
from tests.picker.test_streams import DONE, HEAD, Dictation, client, event, relaying, request

pytestmark = pytest.mark.anyio

MINUTES = 600.0
WORDS = [f" {number}" for number in range(40)]
# One that tells when the answer begins, and those that are ahead of an even pace.
AT_ONCE = 5


def gathering(url: str, interval: float = MINUTES, **settings: Any) -> HTTPInferenceClient:
    picker = EndpointPickerConfig(report_interval=interval, **settings)
    return client(url, endpoint_picker=picker, stream_upstream=True)


def reported(picker: ScriptedPicker) -> list[bytes]:
    """The pieces of the last answer, as the picker heard them."""
    heard = picker.talks[-1].heard
    return [m.response_body.body for m in heard if m.HasField("response_body")]


async def texts_of(stream: InferenceStream, count: int) -> list[str]:
    """Of the next chunks, however many come together."""
    return [(await anext(stream)).text for _ in range(count)]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]


class OneByOne(Dictation):
    """Each piece in a packet of its own, so that each is read by itself."""

    async def __call__(self, writer: asyncio.StreamWriter, received: Received) -> None:
        writer.get_extra_info("socket").setsockopt(6, 1, 1)  # TCP_NODELAY
        await super().__call__(writer, received)


@pytest.mark.parametrize("rewrites", [True, False], ids=["rewritten", "as it was"])
@pytest.mark.parametrize("streams", [True, False], ids=["chunks", "whole"])
async def test_a_fast_answer_is_told_in_few_messages_and_handed_on_whole(
    streams: bool, rewrites: bool
) -> None:
    pod_says = OneByOne()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint, rewrite=rewrites)) as picker,
        gathering(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        for _ in range(3):
            # The later ones are read by what was learnt of those before.
            pod_says.say(*map(event, WORDS), DONE, b"")
            if streams:
                stream = one.stream(request())
                async for _ in stream:
                    pass
                response = stream.response
            else:
                response = await one.generate(request())
            assert response is not None
            assert response.json()["choices"][0]["text"] == "".join(WORDS)
            pieces = reported(picker)
            assert b"".join(pieces) == b"".join(map(event, WORDS)) + DONE
            assert len(pieces) <= AT_ONCE + 1
        await picker.all_ended()
    assert set(picker.ends) == {"ended"}


async def test_the_first_tokens_are_not_held_up() -> None:
    pod_says = Dictation()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint)) as picker,
        gathering(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        for word in WORDS[:AT_ONCE]:
            # Each is said only once the one before it has arrived here.
            pod_says.say(event(word))
            assert await texts_of(stream, 1) == [word]
        pod_says.say(DONE, b"")
        async for _ in stream:
            pass


async def test_what_is_gathered_is_told_when_the_time_is_up() -> None:
    pod_says = OneByOne()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint)) as picker,
        gathering(picker.url, 0.005) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        pod_says.say(*map(event, WORDS))
        # Nothing more is said until all of them have arrived.
        assert await texts_of(stream, len(WORDS)) == WORDS
        pod_says.say(DONE, b"")
        async for _ in stream:
            pass


async def test_what_had_come_before_a_pod_broke_off_is_told_and_handed_on() -> None:
    async def breaks_off(writer: asyncio.StreamWriter, _: Received) -> None:
        writer.write(HEAD)
        for piece in map(event, WORDS):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)
        writer.close()

    async with (
        running_pod(breaks_off) as pod,
        scripted_picker(relaying(pod.endpoint, rewrite=False)) as picker,
        gathering(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        assert await texts_of(stream, len(WORDS)) == WORDS
        with pytest.raises(InferenceError, match=f"127.0.0.1:{pod.port}"):
            await anext(stream)
        await picker.all_ended()
    assert b"".join(reported(picker)) == b"".join(map(event, WORDS))


@pytest.mark.parametrize("rewrites", [False, True], ids=["as it was", "rewritten"])
async def test_a_picker_that_leaves_does_not_take_what_is_gathered_with_it(rewrites: bool) -> None:
    async def script(talk: Talk) -> None:
        await talk.pass_to(pod.endpoint)
        await talk.read()
        await talk.say(response_headers={})
        for _ in range(AT_ONCE):
            message = await talk.read()
            assert message is not None
            body = message.response_body.body
            streamed = {"body": body.replace(b"tuned", b"m") if rewrites else body}
            await talk.say(
                response_body={"response": {"body_mutation": {"streamed_response": streamed}}}
            )
        await leave.wait()

    leave, pod_says = asyncio.Event(), OneByOne()
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        gathering(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        stream = one.stream(request())
        for word in WORDS[:AT_ONCE]:
            pod_says.say(event(word))
            assert await texts_of(stream, 1) == [word]
        pod_says.say(*map(event, WORDS[AT_ONCE:]))
        while not pod_says.pieces.empty():
            await asyncio.sleep(0)
        leave.set()
        if rewrites:
            with pytest.raises(BadResponseError, match="stopped in the middle"):
                await texts_of(stream, 1)
            return
        assert await texts_of(stream, len(WORDS) - AT_ONCE) == WORDS[AT_ONCE:]
        for word in WORDS:
            # None of what comes from then on waits for the one behind it.
            pod_says.say(event(word))
            assert await texts_of(stream, 1) == [word]
        pod_says.say(DONE, b"")
        async for _ in stream:
            pass
        await picker.all_ended()


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "deaf"])
async def test_a_picker_that_hands_nothing_back_loses_nothing_of_a_fast_answer(
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

    words = [f"{number} {'y' * 900}" for number in range(500)]
    pod_says = Dictation()
    pod_says.say(*map(event, words), DONE, b"")
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(script) as picker,
        gathering(picker.url, 0.005, echo_timeout=0.2) as one,
        asyncio.timeout(LIMIT_S),
    ):
        response = await one.generate(request())
        assert response.json()["choices"][0]["text"] == "".join(words)
        await picker.all_ended()


@pytest.mark.parametrize("ends", ["left", "deadline", "closed"])
async def test_an_answer_that_is_given_up_amid_a_gathering_leaves_nothing_behind(ends: str) -> None:
    pod_says = OneByOne()
    asked = InferenceRequest(
        params={"model": "m", "prompt": "Hi"},
        endpoint="/v1/completions",
        deadline=0.2 if ends == "deadline" else None,
    )
    async with (
        running_pod(pod_says) as pod,
        scripted_picker(relaying(pod.endpoint, rewrite=False)) as picker,
        gathering(picker.url) as one,
        asyncio.timeout(LIMIT_S),
    ):
        async with one.stream(asked) as stream:
            pod_says.say(*map(event, WORDS))
            assert await texts_of(stream, AT_ONCE) == WORDS[:AT_ONCE]
            if ends == "deadline":
                with pytest.raises(DeadlineExceededError):
                    await texts_of(stream, len(WORDS))
            if ends == "closed":
                await one.aclose()
        await pod.lost.wait()
        await picker.all_ended()
