"""Sending an answer as server-sent events while its tokens come, well or with a fault."""

from __future__ import annotations

from batch_gateway.simulator.answers.answer import Answer
from batch_gateway.simulator.answers.answer_events import EVENT_STREAM, data_event
from batch_gateway.simulator.answers.replies import Reply
from batch_gateway.simulator.faults import Fault
from batch_gateway.simulator.server_exchange import Exchange

__all__ = ["EventStream"]

_BAD_CHUNK = b'data: {"id":"chatcmpl-broken","choices":[{"delta":{"content":"so\n\n'
_ERROR_EVENT = {
    "error": {
        "message": "The model server failed while it generated.",
        "type": "server_error",
        "param": None,
        "code": "simulated_stream_error",
    }
}


class EventStream:
    """Events of one answer. A fault strikes when half of the tokens have been sent."""

    def __init__(self, exchange: Exchange, answer: Answer, fault: Fault | None) -> None:
        self._exchange = exchange
        self._answer = answer
        self._fault = "" if fault is None else fault.name
        self._sent = 0
        self._begun = False
        self._strikes_half_way = self._fault not in ("", "sse-no-done")
        self._half = max(1, answer.output_tokens // 2)

    @property
    def right(self) -> bool:
        return not self._fault

    def tokens_ready(self, count: int) -> None:
        """Send what is new up to token `count`."""
        if count <= self._sent or self._exchange.ended:
            return
        if self._strikes_half_way and count >= self._half:
            self._send_tokens(self._half)
            self._strikes_half_way = False
            self._strike()
        if not self._exchange.ended:
            self._send_tokens(count)

    def close(self) -> None:
        """The last token was sent; say that the stream is complete."""
        if self._exchange.ended:
            return
        events = self._answer.closing()
        if self._fault == "sse-no-done":
            events = events[:-1]
        self._exchange.send_chunk(b"".join(events))
        self._exchange.end_stream()

    def _send_tokens(self, count: int) -> None:
        if count <= self._sent:
            return
        opening = [] if self._begun else self._answer.opening()
        events = b"".join([*opening, *self._answer.tokens(self._sent, count)])
        self._sent = count
        if self._begun:
            self._exchange.send_chunk(events)
            return
        self._begun = True
        headers = (("cache-control", "no-cache"),)
        self._exchange.begin_stream(Reply(200, events, EVENT_STREAM, headers))

    def _strike(self) -> None:
        if self._fault == "sse-bad-chunk":
            # The rest of the answer follows, so that only the broken event gives it away.
            self._exchange.send_chunk(_BAD_CHUNK)
        elif self._fault == "sse-error-event":
            self._exchange.send_chunk(data_event(_ERROR_EVENT))
            self._exchange.end_stream()
        else:
            self._exchange.finish(whole=False, keep_alive=False)
