"""What every conversation with a data plane has: its stream, its record, its place on a pod."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Protocol

from batch_gateway.simulator.answers.replies import Reply, openai_refusal
from batch_gateway.simulator.picker.chooser import PodChooser
from batch_gateway.simulator.picker.decisions import Decision, Decisions
from batch_gateway.simulator.picker.incoming import IncomingRequest, control_header
from batch_gateway.simulator.picker.messages import (
    immediate_response,
    read_headers,
    seen_request,
    seen_response,
    served_endpoint,
)
from batch_gateway.simulator.picker.misbehaviour import BreakableStream
from batch_gateway.simulator.picker.picker_admission import Admission, Ticket
from batch_gateway.simulator.picker.picker_config import PickerConfig
from batch_gateway.simulator.picker.token_count import TokenCount
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest, ProcessingResponse
from batch_gateway.wire.scheduling_headers import DROPPED_REASON, FAIRNESS_ID, OBJECTIVE

__all__ = ["Desk", "MessageStream", "Talk"]

_EVENT_STREAM = "text/event-stream"


class MessageStream(BreakableStream, Protocol):
    """The stream as a conversation needs it."""

    async def read(self) -> ProcessingRequest | None:
        """The next message, or None when the data plane sends no more."""
        ...


class Desk(Protocol):
    """What all conversations of one picker have in common."""

    @property
    def config(self) -> PickerConfig: ...
    @property
    def objectives(self) -> Mapping[str, int]:
        """Priority by name of an InferenceObjective."""
        ...

    @property
    def chooser(self) -> PodChooser: ...
    @property
    def admission(self) -> Admission: ...
    @property
    def decisions(self) -> Decisions: ...

    def attempt(self, request_id: str) -> int:
        """How many conversations there have been with this id, from 1 on."""
        ...

    def drawn_fault(self, request_id: str, attempt: int) -> str | None:
        """The fault that chance gives this attempt."""
        ...


class Talk:
    """One stream, one decision, and perhaps one ticket to a pod."""

    def __init__(self, desk: Desk, stream: MessageStream) -> None:
        self.desk = desk
        self.stream = stream
        self.decision = Decision(request_id="")
        self.ticket: Ticket | None = None
        self.attempt = 0
        self.response_headers: dict[str, str] = {}
        self._count = TokenCount(events=False)

    # -- messages --------------------------------------------------------------------------

    async def read(self) -> ProcessingRequest | None:
        message = await self.stream.read()
        if message is not None:
            self.decision.saw(seen_request(message))
        return message

    async def write(self, message: ProcessingResponse) -> None:
        self.decision.saw(seen_response(message))
        await self.stream.write(message)

    async def write_all(self, messages: Iterable[ProcessingResponse]) -> None:
        for message in messages:
            await self.write(message)

    async def refuse(self, reply: Reply, outcome: str = "refused") -> None:
        """A final answer in the picker's own name."""
        self.decision.status = reply.status
        self.decision.dropped_reason = dict(reply.headers).get(DROPPED_REASON, "")
        self.decision.outcome = outcome
        as_json = self.desk.config.error_body == "json"
        await self.write(immediate_response(openai_refusal(reply) if as_json else reply))

    # -- the record ------------------------------------------------------------------------

    def introduce(self, headers: dict[str, str]) -> None:
        """Begin the record of a request with these headers."""
        # Plugins keep state by it, so the real picker makes one where there is none.
        headers.setdefault("x-request-id", str(uuid.uuid4()))
        self.decision.request_id = headers["x-request-id"]
        self.decision.path = headers.get(":path", "")
        self.attempt = self.desk.attempt(self.decision.request_id)
        self.desk.decisions.add(self.decision)

    def heed(self, headers: Mapping[str, str]) -> None:
        """Take who asks, and how urgently, from the headers."""
        decision = self.decision
        decision.objective = control_header(headers, OBJECTIVE)
        decision.fairness_id = control_header(headers, FAIRNESS_ID)
        decision.priority = self.desk.objectives.get(decision.objective, 0)

    def received(self, request: IncomingRequest | None) -> None:
        """The request is there whole; None when it has no body."""
        self.decision.received_at = time.time()
        if request is not None:
            self.decision.model = request.model
            self.decision.target_model = request.target_model

    def placed(self, ticket: Ticket, endpoints: list[str]) -> None:
        """It has its pod; `endpoints` is what the data plane is told."""
        self.ticket = ticket
        self.decision.endpoints = endpoints
        self.decision.picked_at = time.time()

    def response_began(self, message: ProcessingRequest) -> None:
        decision = self.decision
        decision.response_at = time.time()
        decision.served = served_endpoint(message)
        self.response_headers = headers = read_headers(message.response_headers.headers)
        status = headers.get(":status", "")
        decision.status = int(status) if status.isdigit() else 0
        decision.streamed = _EVENT_STREAM in headers.get("content-type", "")
        self._count = TokenCount(events=decision.streamed)
        if message.response_headers.end_of_stream:
            self._response_over()

    def response_part(self, data: bytes, *, end: bool) -> None:
        self._count.feed(data, end=end)
        if end:
            self._response_over()

    def _response_over(self) -> None:
        decision, usage = self.decision, self._count.usage
        if usage is not None:
            decision.prompt_tokens = usage.input_tokens
            decision.completion_tokens = usage.output_tokens
            decision.cached_tokens = usage.cached_tokens
        decision.outcome = "completed"
        self.over()

    def over(self) -> None:
        """The pod has nothing more to do with it."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            self.desk.admission.leave(ticket)
        self.decision.ended_at = self.decision.ended_at or time.time()
