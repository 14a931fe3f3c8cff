"""One inference request, from its arrival to the end of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from batch_gateway.simulator.answers.answer import Answer
from batch_gateway.simulator.answers.answer_events import EVENT_STREAM
from batch_gateway.simulator.answers.replies import LLMD_REFUSALS, Reply, openai_error
from batch_gateway.simulator.event_stream import EventStream
from batch_gateway.simulator.fault_replies import spoiled_reply
from batch_gateway.simulator.faults import Fault, FaultKind
from batch_gateway.simulator.server_exchange import Exchange
from batch_gateway.simulator.wire_faults import send_with_fault
from batch_gateway.wire.scheduling_headers import OBJECTIVE

if TYPE_CHECKING:
    from batch_gateway.simulator.pacing import Pacing
    from batch_gateway.simulator.simulator_config import RefusalStyle

__all__ = ["Inference"]

_OBJECTIVE_HEADERS = tuple(name.encode() for name in OBJECTIVE)
_RETRY_AFTER = (("retry-after", "1"),)


class Inference:
    """A job for `Pacing` that sends its answer through an exchange, as its fault has it.

    Attributes:
        right: whether what is sent is the right answer and not a fault's.
        first_token_seconds: from arrival to the first token, None until there is one.
    """

    def __init__(
        self,
        exchange: Exchange,
        answer: Answer,
        fault: Fault | None,
        priority: int,
        style: RefusalStyle,
    ) -> None:
        self.prompt_tokens = answer.prompt_tokens
        self.cached_tokens = answer.cached_tokens
        self.output_tokens = answer.output_tokens
        self.width = answer.width
        self.priority = priority
        self.first_token_seconds: float | None = None
        self.answer = answer
        self._exchange = exchange
        self._fault = fault
        self._style: RefusalStyle = style
        self._began = time.monotonic()
        self._stream: EventStream | None = None
        if answer.stream and (fault is None or fault.kind is FaultKind.STREAM):
            self._stream = EventStream(exchange, answer, fault)

    @property
    def right(self) -> bool:
        if self._stream is not None:
            return self._stream.right
        return self._fault is None or self._fault.kind is FaultKind.WIRE

    @property
    def seconds(self) -> float:
        """Since the request arrived."""
        return time.monotonic() - self._began

    @property
    def follows_tokens(self) -> bool:
        return self._stream is not None

    # -- called by Pacing ------------------------------------------------------------------

    def tokens_ready(self, count: int) -> None:
        if count and self.first_token_seconds is None:
            self.first_token_seconds = self.seconds
        if self._stream is not None:
            self._stream.tokens_ready(count)

    def done(self) -> None:
        if self._stream is not None:
            self._stream.close()
            return
        reply = self._whole_reply()
        if self._fault is None:
            self._exchange.send(reply)
        elif self._fault.kind is FaultKind.WIRE:
            send_with_fault(self._exchange, reply, self._fault)
        else:
            self._exchange.send(spoiled_reply(self._fault, reply))

    def refused(self, cause: str) -> None:
        self._exchange.send(_refusal(cause, self._style))

    def _whole_reply(self) -> Reply:
        if not self.answer.stream:
            return Reply(200, self.answer.body())
        opening = self.answer.opening()
        tokens = self.answer.tokens(0, self.output_tokens)
        events = [*opening, *tokens, *self.answer.closing()]
        return Reply(200, b"".join(events), EVENT_STREAM)


def start_inference(
    inference: Inference, pacing: Pacing, exchange: Exchange, ended: Callable[[int, bool], None]
) -> None:
    """Let it run, and stop it when its client goes away."""

    def on_end(status: int, whole: bool) -> None:
        pacing.cancel(inference)
        ended(status, whole)

    exchange.on_end = on_end
    pacing.start(inference)


def objective_of(exchange: Exchange) -> str:
    """The InferenceObjective that the request names, under the new header or the old."""
    for header in _OBJECTIVE_HEADERS:
        name = exchange.request.header(header)
        if name:
            return name
    return ""


def _refusal(cause: str, style: RefusalStyle) -> Reply:
    if cause == "too-large":
        return openai_error(
            400,
            "This request needs more tokens than the KV cache of the model server holds.",
            code="context_length_exceeded",
            param="messages",
        )
    if style == "llm-d":
        return LLMD_REFUSALS[cause]
    return openai_error(
        429,
        "Rate limit reached: the queue of the model server is full.",
        code="rate_limit_exceeded",
        headers=_RETRY_AFTER,
    )
