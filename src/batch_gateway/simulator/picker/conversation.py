"""One stream, which is one HTTP request: from its headers to the end of its response."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Protocol

from batch_gateway.simulator.picker.admission import Admission, Ticket
from batch_gateway.simulator.picker.chooser import PodChooser
from batch_gateway.simulator.picker.config import PickerConfig
from batch_gateway.simulator.picker.decisions import Decision, Decisions
from batch_gateway.simulator.picker.incoming import (
    IncomingRequest,
    control_header,
    parse_request,
    rewrite_model,
    rewrite_model_back,
)
from batch_gateway.simulator.picker.messages import (
    echoed_headers,
    immediate_response,
    picked_response,
    read_headers,
    request_body_responses,
    response_body_responses,
    seen_request,
    seen_response,
    served_endpoint,
    subset_of,
)
from batch_gateway.simulator.picker.token_count import TokenCount
from batch_gateway.simulator.replies import (
    DROPPED_REASON,
    Reply,
    RequestError,
)
from batch_gateway.wire.ext_proc.messages_pb2 import (
    HttpBody,
    ProcessingRequest,
    ProcessingResponse,
)

__all__ = ["Conversation", "Desk", "MessageStream"]

_EVENT_STREAM = "text/event-stream"


class MessageStream(Protocol):
    """The stream as the conversation needs it."""

    async def read(self) -> ProcessingRequest | None:
        """The next message, or None when the data plane sends no more."""
        ...

    async def write(self, message: ProcessingResponse) -> None: ...


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


class Conversation:
    """Answers one stream as llm-d's picker does with FULL_DUPLEX_STREAMED bodies."""

    def __init__(self, desk: Desk, stream: MessageStream) -> None:
        self._desk = desk
        self._stream = stream
        self._decision = Decision(request_id="")
        self._ticket: Ticket | None = None

    async def run(self) -> None:
        """Until either side has ended it. Cancelled when the data plane breaks it off."""
        decision = self._decision
        try:
            await self._converse()
            decision.outcome = decision.outcome or "unreported"
        except Exception:
            decision.outcome = decision.outcome or "failed"
            raise
        finally:
            decision.outcome = decision.outcome or "abandoned"
            self._over()

    async def _converse(self) -> None:
        first = await self._read()
        if first is None or not first.HasField("request_headers"):
            return
        self._desk.decisions.add(self._decision)
        headers = read_headers(first.request_headers.headers)
        self._introduce(headers)
        try:
            request = await self._answer(headers, first)
        except RequestError as refusal:
            await self._refuse(refusal.reply)
            return
        if request is not None:
            await self._follow(request)

    def _introduce(self, headers: dict[str, str]) -> None:
        # Plugins keep state by it, so the real picker makes one where there is none.
        headers.setdefault("x-request-id", str(uuid.uuid4()))
        decision = self._decision
        decision.request_id = headers["x-request-id"]
        decision.path = headers.get(":path", "")
        decision.objective = control_header(headers, "inference-objective")
        decision.fairness_id = control_header(headers, "inference-fairness-id")
        decision.priority = self._desk.objectives.get(decision.objective, 0)

    # -- the request -----------------------------------------------------------------------

    async def _answer(
        self, headers: dict[str, str], first: ProcessingRequest
    ) -> IncomingRequest | None:
        """Say where it goes; None when the data plane gave up. Raises RequestError."""
        if first.request_headers.end_of_stream:
            self._decision.received_at = time.time()
            return await self._answer_without_body(headers)
        whole = await self._whole_body()
        if whole is None:
            return None
        body, subset = whole
        self._decision.received_at = time.time()
        request = parse_request(headers, body, subset, self._desk.config.rewrites)
        self._decision.model = request.model
        self._decision.target_model = request.target_model
        decision = self._decision
        self._placed(
            await self._desk.admission.enter(request, decision.priority, decision.fairness_id)
        )
        sent = rewrite_model(request)
        await self._write(picked_response(self._decision.endpoints, headers, len(sent)))
        await self._write_all(request_body_responses(sent))
        return request

    async def _answer_without_body(self, headers: dict[str, str]) -> IncomingRequest:
        # Nothing of the headers is looked at: it is taken for a GET.
        self._placed(self._desk.admission.enter_anywhere())
        await self._write(picked_response(self._decision.endpoints, {}, None))
        return IncomingRequest(headers, b"", "", "", b"", stream=False, subset=None)

    async def _whole_body(self) -> tuple[bytes, frozenset[str] | None] | None:
        body = bytearray()
        while (message := await self._read()) is not None:
            if not message.HasField("request_body"):
                continue
            body += message.request_body.body
            if message.request_body.end_of_stream:
                return bytes(body), subset_of(message)
        return None

    def _placed(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._decision.endpoints = ticket.endpoints
        self._decision.picked_at = time.time()

    async def _refuse(self, reply: Reply) -> None:
        self._decision.status = reply.status
        self._decision.dropped_reason = dict(reply.headers).get(DROPPED_REASON, "")
        self._decision.outcome = "refused"
        await self._write(immediate_response(reply))

    # -- the response ----------------------------------------------------------------------

    async def _follow(self, request: IncomingRequest) -> None:
        headers: dict[str, str] = {}
        count = TokenCount(events=False)
        held = bytearray()
        while (message := await self._read_unless_evicted()) is not None:
            if message.HasField("response_headers"):
                headers = read_headers(message.response_headers.headers)
                self._response_began(headers, served_endpoint(message))
                count = TokenCount(events=self._decision.streamed)
                await self._write(echoed_headers(headers, self._own_headers()))
                if message.response_headers.end_of_stream:
                    self._response_over(count)
            elif message.HasField("response_body"):
                await self._response_part(request, message.response_body, count, held)

    async def _response_part(
        self, request: IncomingRequest, part: HttpBody, count: TokenCount, held: bytearray
    ) -> None:
        """Events are handed on as they come, anything else when it is there whole."""
        count.feed(part.body, end=part.end_of_stream)
        if part.end_of_stream:
            self._response_over(count)
        if not self._decision.streamed:
            held += part.body
            if not part.end_of_stream:
                return
        data = part.body if self._decision.streamed else bytes(held)
        data = rewrite_model_back(request, data)
        await self._write_all(response_body_responses(data, end=part.end_of_stream))

    def _response_began(self, headers: Mapping[str, str], served: str) -> None:
        decision = self._decision
        decision.response_at = time.time()
        decision.served = served
        status = headers.get(":status", "")
        decision.status = int(status) if status.isdigit() else 0
        decision.streamed = _EVENT_STREAM in headers.get("content-type", "")

    def _own_headers(self) -> dict[str, str]:
        served = self._decision.served or self._decision.endpoints[0]
        token = self._desk.chooser.session_token(served)
        own = {} if token is None else {"x-session-token": token}
        if self._ticket is not None and self._ticket.queued_seconds is not None:
            own["x-llm-d-flow-queue-duration-ms"] = str(int(self._ticket.queued_seconds * 1000))
        return own

    def _response_over(self, count: TokenCount) -> None:
        decision = self._decision
        if count.usage is not None:
            decision.prompt_tokens = count.usage.input_tokens
            decision.completion_tokens = count.usage.output_tokens
            decision.cached_tokens = count.usage.cached_tokens
        decision.outcome = "completed"
        self._over()

    def _over(self) -> None:
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self._desk.admission.leave(ticket)
        self._decision.ended_at = self._decision.ended_at or time.time()

    async def _read_unless_evicted(self) -> ProcessingRequest | None:
        """The next message; None as well when the request has to make room for another."""
        evicted = None if self._ticket is None else self._ticket.evicted
        if evicted is None:
            return await self._read()
        reading = asyncio.ensure_future(self._read())
        try:
            await asyncio.wait({reading, evicted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
        if not evicted.done():
            return await reading
        await self._evict()
        return None

    async def _evict(self) -> None:
        reason = self._desk.config.eviction or "evicted"
        self._decision.status = 429
        self._decision.dropped_reason = reason
        self._decision.outcome = "evicted"
        body = b"request evicted by flow control"
        await self._write(immediate_response(Reply(429, body, headers=((DROPPED_REASON, reason),))))

    # -- messages --------------------------------------------------------------------------

    async def _read(self) -> ProcessingRequest | None:
        message = await self._stream.read()
        if message is not None:
            self._decision.saw(seen_request(message))
        return message

    async def _write(self, message: ProcessingResponse) -> None:
        self._decision.saw(seen_response(message))
        await self._stream.write(message)

    async def _write_all(self, messages: Iterable[ProcessingResponse]) -> None:
        for message in messages:
            await self._write(message)
