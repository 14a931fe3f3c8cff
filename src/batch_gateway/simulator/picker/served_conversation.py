"""One stream, which is one HTTP request: from its headers to the end of its response."""

from __future__ import annotations

import asyncio

from batch_gateway.simulator.answers.replies import PLAIN, Reply, RequestError
from batch_gateway.simulator.picker.incoming import (
    IncomingRequest,
    parse_request,
    rewrite_model,
    rewrite_model_back,
    without_new_headers,
)
from batch_gateway.simulator.picker.lightweight import converse_lightly
from batch_gateway.simulator.picker.messages import (
    echoed_headers,
    picked_response,
    read_headers,
    request_body_responses,
    response_body_responses,
    subset_of,
    trailers_response,
)
from batch_gateway.simulator.picker.misbehaviour import (
    ConversationOver,
    Misbehaviour,
    eviction_reply,
)
from batch_gateway.simulator.picker.picker_faults import (
    FAULT_HEADER,
    PickerFault,
    fault_in_model,
    parse_picker_fault,
)
from batch_gateway.simulator.picker.talk import Desk, MessageStream, Talk
from batch_gateway.wire.ext_proc.messages_pb2 import HttpBody, ProcessingRequest

__all__ = ["converse"]


async def converse(desk: Desk, stream: MessageStream) -> None:
    """Answer a stream until either side ends it. Cancelled when the data plane breaks it off.

    Raises CallError where the call is to end with a status.
    """
    talk = Talk(desk, stream)
    decision = talk.decision
    try:
        await _Conversation(talk).run()
        decision.outcome = decision.outcome or "unreported"
    except ConversationOver as over:
        decision.outcome = decision.outcome or over.outcome
    except Exception:
        decision.outcome = decision.outcome or "failed"
        raise
    finally:
        decision.outcome = decision.outcome or "abandoned"
        talk.over()


class _Conversation:
    """Answers as llm-d's picker does with FULL_DUPLEX_STREAMED bodies, but for its faults."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        self._fault: PickerFault | None = None
        self._odd = Misbehaviour(None)
        self._held = bytearray()

    async def run(self) -> None:
        first = await self._talk.read()
        if first is None or not first.HasField("request_headers"):
            return
        headers = read_headers(first.request_headers.headers)
        self._talk.introduce(headers)
        try:
            self._meet(self._fault_at_start(headers))
            await self._odd.strike("start", self._talk.stream)
            if self._odd.lightweight:
                await converse_lightly(self._talk, first)
                return
            request = await self._answer(headers, first)
        except RequestError as refusal:
            await self._talk.refuse(refusal.reply)
            return
        if request is not None:
            await self._odd.strike("picked", self._talk.stream)
            await self._follow(request)

    # -- faults ----------------------------------------------------------------------------

    def _fault_at_start(self, headers: dict[str, str]) -> PickerFault | None:
        """The fault that the headers ask for, else the one that chance gives."""
        talk = self._talk
        spec = headers.get(FAULT_HEADER)
        spec = spec or talk.desk.drawn_fault(talk.decision.request_id, talk.attempt)
        try:
            return parse_picker_fault(spec) if spec else None
        except ValueError as error:
            raise RequestError(_bad_fault(error)) from error

    def _fault_of_model(self, model: str) -> None:
        try:
            fault = fault_in_model(model)
        except ValueError as error:
            raise RequestError(_bad_fault(error)) from error
        if fault is not None:
            self._meet(fault)

    def _meet(self, fault: PickerFault | None) -> None:
        """It has this fault, unless it met it often enough before."""
        due = fault is not None and (fault.times is None or self._talk.attempt <= fault.times)
        self._fault = fault if due else None
        self._odd = Misbehaviour(self._fault)

    # -- the request -----------------------------------------------------------------------

    async def _answer(
        self, headers: dict[str, str], first: ProcessingRequest
    ) -> IncomingRequest | None:
        """Say where it goes; None when the data plane gave up. Raises RequestError."""
        if first.request_headers.end_of_stream:
            return await self._answer_without_body(headers)
        whole = await self._whole_body()
        if whole is None:
            return None
        talk, desk = self._talk, self._talk.desk
        heeded = without_new_headers(headers) if self._odd.old_headers_only else headers
        talk.heed(heeded)
        request = parse_request(heeded, *whole, desk.config.rewrites)
        talk.received(request)
        if self._fault is None:
            self._fault_of_model(request.model)
        await self._odd.before_pick()
        decision = talk.decision
        ticket = await desk.admission.enter(request, decision.priority, decision.fairness_id)
        talk.placed(ticket, self._odd.endpoints(ticket.endpoints))
        body = self._odd.body(rewrite_model(request))
        answer = picked_response(decision.endpoints, headers, len(body))
        await talk.write(self._odd.shape(answer))
        await talk.write_all(request_body_responses(body, self._odd.chunk_bytes))
        return request

    async def _answer_without_body(self, headers: dict[str, str]) -> IncomingRequest:
        # Nothing of the headers is looked at: it is taken for a GET.
        self._talk.received(None)
        ticket = self._talk.desk.admission.enter_anywhere()
        self._talk.placed(ticket, ticket.endpoints)
        await self._talk.write(picked_response(ticket.endpoints, {}, None))
        return IncomingRequest(headers, b"", "", "", b"", stream=False, subset=None)

    async def _whole_body(self) -> tuple[bytes, frozenset[str] | None] | None:
        body = bytearray()
        while (message := await self._talk.read()) is not None:
            if not message.HasField("request_body"):
                continue
            body += message.request_body.body
            if message.request_body.end_of_stream:
                return bytes(body), subset_of(message)
        return None

    # -- the response ----------------------------------------------------------------------

    async def _follow(self, request: IncomingRequest) -> None:
        evicted = self._eviction()
        while (message := await self._read_unless(evicted)) is not None:
            if message.HasField("response_headers"):
                own = self._own_headers()
                self._talk.response_began(message)
                await self._odd.strike("response", self._talk.stream)
                if not self._odd.ignores_responses:
                    own |= self._session()
                    await self._talk.write(echoed_headers(self._talk.response_headers, own))
            elif message.HasField("response_body"):
                await self._response_part(request, message.response_body)
            elif message.HasField("response_trailers") and not self._odd.ignores_responses:
                await self._talk.write(trailers_response())

    async def _response_part(self, request: IncomingRequest, part: HttpBody) -> None:
        """Events are handed on as they come, anything else when it is there whole."""
        streamed, end = self._talk.decision.streamed, part.end_of_stream
        self._talk.response_part(part.body, end=end)
        if self._odd.ignores_responses:
            return
        if not streamed:
            self._held += part.body
            if not end:
                return
        data = rewrite_model_back(request, part.body if streamed else bytes(self._held))
        await self._talk.write_all(response_body_responses(data, end=end))

    def _own_headers(self) -> dict[str, str]:
        ticket = self._talk.ticket
        if ticket is None or ticket.queued_seconds is None:
            return {}
        return {"x-llm-d-flow-queue-duration-ms": str(int(ticket.queued_seconds * 1000))}

    def _session(self) -> dict[str, str]:
        decision = self._talk.decision
        token = self._talk.desk.chooser.session_token(decision.served or decision.endpoints[0])
        return {} if token is None else {"x-session-token": token}

    # -- eviction --------------------------------------------------------------------------

    def _eviction(self) -> asyncio.Future[None] | None:
        """Done when the request is taken back; None when it never is."""
        fault = self._fault
        if fault is None or fault.name != "evict":
            return None if self._talk.ticket is None else self._talk.ticket.evicted
        loop = asyncio.get_running_loop()
        evicted: asyncio.Future[None] = loop.create_future()
        loop.call_later(fault.after, lambda: None if evicted.done() else evicted.set_result(None))
        return evicted

    async def _read_unless(self, evicted: asyncio.Future[None] | None) -> ProcessingRequest | None:
        """The next message; None as well when the request was taken back."""
        # Whose response is complete is left alone.
        if evicted is None or self._talk.decision.outcome == "completed":
            return await self._talk.read()
        reading = asyncio.ensure_future(self._talk.read())
        try:
            await asyncio.wait({reading, evicted}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not reading.done():
                reading.cancel()
        if not evicted.done():
            return await reading
        reason = self._talk.desk.config.eviction or "evicted"
        if self._fault is not None and self._fault.name == "evict":
            reason = self._fault.options.get("reason", "evicted")
        await self._talk.refuse(eviction_reply(reason), outcome="evicted")
        return None


def _bad_fault(error: ValueError) -> Reply:
    return Reply(400, f"inference error: BadRequest - {error}".encode(), PLAIN)
