"""The races of a stream: what happens when several things happen at once. No socket, no clock."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_gateway.errors import GatewayConnectionError, InferenceError
from batch_gateway.grpc.contract import GrpcStatusError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.picker.conversation import Conversation
from batch_gateway.picker.dialogue import Dialogue, Interrupted
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingResponse
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.http2.grpc_messages import FrameAround

BODY, ANSWER = b"asked", b"answered"
RESPONSE = HTTPResponse(200, Headers(), ANSWER)


def say(**fields: Any) -> bytes:
    return ProcessingResponse(**fields).SerializeToString()


def chosen() -> bytes:
    response = ProcessingResponse(request_headers={})  # pyright: ignore[reportArgumentType]
    name = {"x-gateway-destination-endpoint": "10.0.0.1:80"}
    response.dynamic_metadata.update({"envoy.lb": name})
    return response.SerializeToString()


CHOSEN = (chosen(), say(request_body={}))
ECHOED = (say(response_headers={}), say(response_body={}))
EVICTED = say(immediate_response={"status": {"code": 429}, "body": b"evicted"})


class ScriptedStream:
    """A `GrpcStream` in memory. `heard` are the messages sent; `over` says how it ended."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.half_closed = self.cancelled = False
        self._waiting: deque[bytes | Exception | None] = deque()
        self._callback: Callable[[], None] | None = None

    def says(self, *messages: bytes | Exception | None) -> None:
        """Let messages arrive, None for the end; whoever listens is told at once."""
        self._waiting.extend(messages)
        if self._callback is not None and messages:
            self._callback()

    async def send(self, message: bytes, *, end: bool = False) -> None:
        assert not self.half_closed
        self.heard.append(message)
        self.half_closed = end

    def send_nowait(self, messages: Sequence[bytes], *, end: bool = False) -> bool:
        assert not self.half_closed
        self.heard += messages
        self.half_closed = end
        return True

    async def half_close(self) -> None:
        self.half_closed = True

    async def receive(self) -> bytes | None:
        raise NotImplementedError

    def listen(self, callback: Callable[[], None] | None) -> None:
        self._callback = callback
        if callback is not None and self._waiting:
            callback()

    def offer(self, take: Callable[[bytes, int, int], int] | None) -> None:
        pass

    def send_around(self, around: FrameAround, rest: bytes) -> bool:
        raise NotImplementedError

    def receive_all(self, take: Callable[[bytes], None]) -> bool:
        while self._waiting:
            first = self._waiting[0]
            if isinstance(first, Exception):
                raise first
            if first is None:
                return True
            self._waiting.popleft()
            take(first)
        return False

    def cancel(self) -> None:
        self._callback = None
        self.cancelled = True


class Scene:
    """A dialogue on a scripted stream; `forgotten` once it is over for its owner too."""

    def __init__(self) -> None:
        self.stream = ScriptedStream()
        self.forgotten = False
        conversation = Conversation("picker", {":path": "/v1"}, (BODY,))
        self.dialogue = Dialogue(self.stream, conversation, "picker", self._forget)
        self.dialogue.question = (b"head", b"body")

    def _forget(self, _: Dialogue) -> None:
        self.forgotten = True


def on_a_loop(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 10))


def test_an_eviction_interrupts_whatever_the_task_waits_for() -> None:
    async def main() -> None:
        scene = Scene()
        scene.stream.says(*CHOSEN)
        assert await scene.dialogue.ask() is not None
        asyncio.get_running_loop().call_soon(scene.stream.says, EVICTED)
        with pytest.raises(Interrupted), scene.dialogue:
            await asyncio.Event().wait()
        assert scene.dialogue.refusal.body == b"evicted"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    on_a_loop(main)


@pytest.mark.parametrize("first", ["eviction", "cancellation"])
def test_cancelling_the_task_wins_over_an_eviction_in_the_same_moment(first: str) -> None:
    async def main() -> None:
        scene = Scene()

        async def ask() -> None:
            scene.stream.says(*CHOSEN)
            await scene.dialogue.ask()
            await _forever_in(scene)

        task = asyncio.create_task(ask())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if first == "cancellation":
            task.cancel()
        scene.stream.says(EVICTED)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    on_a_loop(main)


def test_a_timeout_around_it_stays_a_timeout() -> None:
    async def main() -> None:
        scene = Scene()
        scene.stream.says(*CHOSEN)
        await scene.dialogue.ask()

        async def limited() -> None:
            async with asyncio.timeout(0.001):
                await _forever_in(scene)

        with pytest.raises(TimeoutError):
            await limited()

    on_a_loop(main)


async def _forever_in(scene: Scene) -> None:
    with scene.dialogue:
        await asyncio.Event().wait()


def test_an_eviction_in_the_moment_of_the_answer_is_not_lost() -> None:
    async def main() -> None:
        scene = Scene()
        scene.stream.says(*CHOSEN)
        await scene.dialogue.ask()
        answer = asyncio.get_running_loop().create_future()

        def both() -> None:
            answer.set_result(RESPONSE)
            scene.stream.says(EVICTED)

        asyncio.get_running_loop().call_soon(both)
        with pytest.raises(Interrupted), scene.dialogue:
            await answer
        await asyncio.sleep(0)

    on_a_loop(main)


def test_a_stream_that_fails_before_it_is_listened_to_is_told() -> None:
    async def main() -> None:
        scene = Scene()
        scene.stream.says(GatewayConnectionError("gone"))
        with pytest.raises(GatewayConnectionError, match="gone"):
            await scene.dialogue.ask()
        # No cancellation of ours is left behind for whatever the task does next.
        await asyncio.sleep(0)
        scene.dialogue.leave(1.0)
        assert scene.forgotten

    on_a_loop(main)


EVENTS = st.lists(
    st.sampled_from(
        [
            *(*CHOSEN, *ECHOED, EVICTED, say(), b"\xff", None),
            *(GrpcStatusError(14, "gone"), GatewayConnectionError("reset")),
            *("turn", "answer", "expire", "break"),
        ]
    ),
    max_size=14,
)


@given(EVENTS, st.booleans())
@settings(max_examples=100)
def test_no_order_of_events_leaves_a_stream_a_task_or_a_cancellation_behind(
    events: list[Any], cancel: bool
) -> None:
    on_a_loop(lambda: _play(events, cancel))


async def _play(events: list[Any], cancel: bool) -> None:
    scene, answer = Scene(), asyncio.get_running_loop().create_future()
    task = asyncio.create_task(_request(scene, answer))
    await asyncio.sleep(0)
    for event in events:
        if event == "turn":
            await asyncio.sleep(0)
        elif event == "expire":
            scene.dialogue.expire()
        elif event in ("answer", "break"):
            if not answer.done():
                answer.set_result(RESPONSE) if event == "answer" else answer.set_exception(
                    GatewayConnectionError("the pod went away")
                )
        elif scene.stream.heard and not scene.stream.cancelled:
            scene.stream.says(event)
    if cancel:
        task.cancel()
    else:
        # As deadlines do in the end.
        for _ in range(3):
            await asyncio.sleep(0)
            scene.dialogue.expire()
            if not answer.done():
                answer.set_exception(GatewayConnectionError("the deadline passed"))
    await asyncio.wait([task])
    if not task.cancelled():
        error = task.exception()
        assert error is None or isinstance(error, InferenceError)
        if error is None:
            assert task.result() in (RESPONSE, scene.dialogue.conversation.refusal)
    scene.dialogue.expire()
    assert scene.forgotten
    assert scene.stream.cancelled
    if answer.done() and not answer.cancelled():
        answer.exception()


async def _request(scene: Scene, answer: asyncio.Future[HTTPResponse]) -> HTTPResponse:
    """What the transport does with a request, on the scripted stream."""
    dialogue = scene.dialogue
    try:
        if await dialogue.ask() is None:
            return dialogue.refusal
        try:
            with dialogue:
                response = await answer
        except Interrupted:
            return dialogue.refusal
        reported = await dialogue.report(response, b"")
        task = asyncio.current_task()
        assert task is not None
        # Of ours none is left; there may be one of the test's.
        assert task.cancelling() == 0
        return reported
    finally:
        dialogue.leave(1.0)
