"""One stream to an endpoint picker under way: the waiting around a `Conversation`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from types import TracebackType

from batch_gateway.errors import BadResponseError, InferenceError, RequestTimeoutError
from batch_gateway.grpc.contract import GrpcStatusError, GrpcStream
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.picker.conversation import Choice, Conversation
from batch_gateway.picker.encode import (
    PIECE,
    pieces_of,
    response_body,
    response_head,
)
from batch_gateway.picker.picker_statuses import status_error
from batch_gateway.wire.http2.grpc_messages import FrameAround

__all__ = ["Dialogue", "Interrupted"]

_NEVER = float("inf")


class Interrupted(Exception):  # noqa: N818 - an event, not an error
    """The picker, or the clock, ended what the block was waiting for; see the dialogue."""


class Dialogue:
    """Sends what is to be said and hears what comes, for the one task that has the request.

    `with dialogue:` is the only place to wait in: whatever the task waits for there is broken off
    by `Interrupted` when the picker refuses, the stream fails before a choice, or `deadline`
    passes. It costs no task of its own: the block's task is cancelled, as asyncio.timeout does.

    Attributes:
        deadline: monotonic seconds past which somebody must call `expire`.
        failure: why there can be no choice.
        polite: both sides have said all, so that the picker is left to end the stream.
        question: the messages to ask with; those of a tuple go out together.
        ran_late: the picker was waited for to hand back the answer, in vain.
    """

    __slots__ = (
        "_cancelling",
        "_forget",
        "_inside",
        "_interrupted",
        "_loop",
        "_on_event",
        "_patient_until",
        "_picker",
        "_stream",
        "_task",
        "_waiter",
        "conversation",
        "deadline",
        "failure",
        "polite",
        "question",
        "ran_late",
    )

    def __init__(
        self,
        stream: GrpcStream,
        conversation: Conversation,
        picker: str,
        forget: Callable[[Dialogue], None],
    ) -> None:
        self._stream = stream
        self.conversation = conversation
        self._picker = picker
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._task: asyncio.Task[object] | None = task
        self._cancelling = task.cancelling()
        self._inside = False
        self._interrupted = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_event: Callable[[], None] | None = None
        self._patient_until: Callable[[], float] = _no_longer
        self.deadline = _NEVER
        self.failure: InferenceError | None = None
        self.question: Iterable[bytes] = ()
        self.ran_late = False
        self.polite = False

    # --- what the request's task does ---

    def __enter__(self) -> None:
        if self.failure is not None or self.conversation.refusal is not None:
            raise Interrupted
        self._inside = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._inside = False
        task = self._task
        if not self._interrupted or task is None:
            return
        self._interrupted = False
        # Another cancellation, of the whole task, wins over ours.
        if task.uncancel() <= self._cancelling and (
            kind is None or issubclass(kind, asyncio.CancelledError)
        ):
            raise Interrupted from error

    @property
    def refusal(self) -> HTTPResponse:
        """The picker's answer in place of a pod's, when there is one."""
        refusal = self.conversation.refusal
        assert refusal is not None  # noqa: S101 - looked for by whoever asks
        return refusal

    async def ask(self) -> Choice | None:
        """Ask, and wait for the choice; None when there is a refusal instead.

        Raises InferenceError when there is neither.
        """
        conversation = self.conversation
        try:
            with self:
                self._stream.listen(self._readable)
                if not self._ask_at_once():
                    for message in self.question:
                        await self._stream.send(message)
                self.question = ()
                while conversation.choice is None and not self._ends_all():
                    # Here and below, not in a method: one coroutine less for each request.
                    self._waiter = self._loop.create_future()
                    await self._waiter
        except Interrupted:
            pass
        finally:
            self._waiter = None
        if conversation.refusal is not None:
            return None
        if conversation.choice is not None and self.failure is None:
            return conversation.choice
        raise self.failure or BadResponseError(f"the endpoint picker {self._picker} fell silent")

    def _ask_at_once(self) -> bool:
        question = self.question
        return isinstance(question, tuple) and self._stream.send_nowait(question)

    async def report(self, response: HTTPResponse, served: bytes) -> HTTPResponse:
        """Report the pod's whole answer; returns what the picker makes of it.

        Raises BadResponseError when it stops in the middle of rewriting it.
        """
        conversation, echo = self.conversation, self.conversation.echo
        if conversation.over:
            return response
        conversation.reporting()
        try:
            with self:
                if not self._tell_at_once(response, served):
                    await self._tell(response, served)
                while not echo.ended and not conversation.over:
                    self._waiter = self._loop.create_future()
                    await self._waiter
        except Interrupted:
            pass
        finally:
            self._waiter = None
        if conversation.refusal is not None:
            return conversation.refusal
        if not echo.give_up():
            raise self.broken_off()
        self.polite = True
        status, headers = conversation.head(response.status_code, response.headers)
        return HTTPResponse(status, headers, echo.take_all())

    def _tell_at_once(self, response: HTTPResponse, served: bytes) -> bool:
        """Report the whole answer in one go, as is usual; whether that was possible."""
        body = response.body
        if len(body) > PIECE:
            return False
        head = response_head(response.status_code, response.headers.raw, served)
        if not self._stream.send_nowait((head, response_body(body, last=True)), end=True):
            return False
        self.conversation.echo.report(body, last=True)
        return True

    async def _tell(self, response: HTTPResponse, served: bytes) -> None:
        await self.say(response_head(response.status_code, response.headers.raw, served))
        await self.say_body(response.body, last=True)

    async def say(self, message: bytes, *, last: bool = False) -> None:
        """Send one message, unless the picker does not listen any more."""
        if self.conversation.over:
            return
        try:
            await self._stream.send(message, end=last)
        except InferenceError:
            self._lost()

    async def say_body(self, body: bytes, *, last: bool) -> None:
        """Report a piece of the answer's body, in as many messages as it needs."""
        pieces = pieces_of(body)
        final = len(pieces) - 1
        for index, piece in enumerate(pieces):
            ends = last and index == final
            self.conversation.echo.report(piece, last=ends)
            await self.say(response_body(piece, last=ends), last=ends)

    def say_body_nowait(self, piece: bytes, *, last: bool) -> bool:
        """Report a piece of the answer's body at once; whether that was possible."""
        conversation = self.conversation
        if not conversation.over:
            message = response_body(piece, last=last)
            if len(piece) > PIECE or not self._stream.send_nowait((message,), end=last):
                return False
        conversation.echo.report(piece, last=last)
        return True

    def watch(
        self,
        on_event: Callable[[], None],
        offer: Callable[[bytes, int, int], int],
        patient_until: Callable[[], float],
    ) -> Callable[[FrameAround, bytes], bool]:
        """Call back at whatever the picker does from now on, instead of interrupting a block.

        What it sends is offered first, see `GrpcStream.offer`. `patient_until` is asked past the
        deadline, and says what that is to be then; 0 where the picker is late.
        Returns what sends, see `GrpcStream.send_around`.
        """
        self._on_event, self._patient_until = on_event, patient_until
        self._stream.offer(offer)
        return self._stream.send_around

    def leave(self, farewell: float) -> None:
        """The request is over: the stream is cancelled now, or at `farewell` (monotonic seconds).

        Until then a picker to which one was `polite` may end it in good order.
        """
        if self._on_event is not None:
            self._on_event, self._patient_until = None, _no_longer
            self._stream.offer(None)
        # An error that is raised holds on to its frames, and they to this object and the bodies
        # in it: without these in the circle all of it goes at once.
        self._task = self.failure = None
        if self.conversation.over or not self.polite:
            self._close()
        else:
            self.deadline = farewell

    async def half_close(self) -> None:
        """Say that there is nothing more to report, so that `leave` is polite."""
        if not self.conversation.over:
            self.polite = True
            with contextlib.suppress(InferenceError):
                await self._stream.half_close()

    def broken_off(self) -> BadResponseError:
        what = "stopped in the middle of the answer that it was rewriting"
        if self.conversation.excessive:
            what = "handed back more of an answer than max_response_bytes"
        return BadResponseError(f"the endpoint picker {self._picker} {what}")

    # --- what happens meanwhile ---

    def abort(self, error: InferenceError) -> None:
        """The client closes. A dialogue that is only being polite goes on."""
        if not self.polite:
            self._failed(error)
            self._notify()

    def expire(self) -> None:
        """The deadline passed."""
        self.deadline = _NEVER
        conversation = self.conversation
        if conversation.choice is None:
            self.failure = RequestTimeoutError(
                f"the endpoint picker {self._picker} did not choose a pod in time"
            )
            self._notify()
        elif later := self._patient_until():
            self.deadline = later
        elif self._inside or self._on_event is not None:
            # It owes an echo; the stream is of no use without one.
            self.ran_late = True
            self._lost()
            self._notify()
        else:
            self._close()

    def _readable(self) -> None:
        conversation = self.conversation
        if conversation.over:
            return
        try:
            if self._stream.receive_all(conversation.received):
                conversation.ended()
        except GrpcStatusError as error:
            self._failed(status_error(error, self._picker))
        except InferenceError as error:
            self._failed(error)
        if conversation.over and self._is_left():
            self._close()
        self._notify()

    def _failed(self, error: InferenceError) -> None:
        if self.conversation.choice is None:
            self.failure = error
        self._lost()

    def _lost(self) -> None:
        """Nothing more can be said or heard; a choice that was made stays good."""
        self.conversation.over = True
        self._stream.cancel()

    def _notify(self) -> None:
        if self._on_event is not None:
            self._on_event()
        elif self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self._inside and not self._interrupted and self._ends_all():
            self._interrupt()

    def _interrupt(self) -> None:
        # The task itself, where it is running, looks before it waits.
        if self._task is not None and self._task is not asyncio.current_task():
            self._interrupted = True
            self._task.cancel()

    def _ends_all(self) -> bool:
        return self.failure is not None or self.conversation.refusal is not None

    def _is_left(self) -> bool:
        return self.polite and not self._inside and self._on_event is None

    def _close(self) -> None:
        self._stream.listen(None)
        self._stream.cancel()
        self._forget(self)


def _no_longer() -> float:
    return 0.0
