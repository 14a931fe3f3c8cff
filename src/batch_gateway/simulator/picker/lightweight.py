"""The inference extension's lightweight picker: each message of a body is answered, unread.

Source: gateway-api-inference-extension, pkg/lwepp/handlers. It takes pods in turn, names no
body, and has gRPC errors where the other one has HTTP statuses.
"""

from __future__ import annotations

from batch_gateway.simulator.answers.replies import RequestError
from batch_gateway.simulator.picker.incoming import IncomingRequest
from batch_gateway.simulator.picker.messages import (
    echoed_headers,
    picked_response,
    read_headers,
    subset_of,
)
from batch_gateway.simulator.picker.rpc.served_call import CallError
from batch_gateway.simulator.picker.talk import Talk
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingRequest, ProcessingResponse
from batch_gateway.wire.http2.grpc_status import StatusCode

__all__ = ["converse_lightly"]

_MOST_BYTES = 10 * 1024 * 1024
_SERVED_HEADER = "x-conformance-test-served-endpoint"


async def converse_lightly(talk: Talk, first: ProcessingRequest) -> None:
    """Answer the rest of a stream that began with `first`. Raises CallError."""
    request = IncomingRequest(
        read_headers(first.request_headers.headers) | {"x-request-id": talk.decision.request_id},
        b"",
        "",
        "",
        b"",
        stream=False,
        subset=subset_of(first),
    )
    if first.request_headers.end_of_stream:
        await _pick(talk, request)
    received = 0
    while (message := await talk.read()) is not None:
        if message.HasField("request_body"):
            received += len(message.request_body.body)
            if received > _MOST_BYTES:
                problem = f"request body size limit of {_MOST_BYTES} bytes exceeded"
                raise CallError(StatusCode.RESOURCE_EXHAUSTED, problem)
            if message.request_body.end_of_stream:
                await _pick(talk, request)
            await _unchanged(talk, "request_body")
        elif message.HasField("response_headers"):
            talk.response_began(message)
            served = talk.decision.served or "fail: missing destination endpoint served metadata"
            await talk.write(echoed_headers(talk.response_headers, {_SERVED_HEADER: served}))
        elif message.HasField("response_body"):
            part = message.response_body
            talk.response_part(part.body, end=part.end_of_stream)
            await _unchanged(talk, "response_body")


async def _pick(talk: Talk, request: IncomingRequest) -> None:
    talk.received(None)
    try:
        ticket = await talk.desk.admission.enter(request, 0, "")
    except RequestError as error:
        problem = "internal error: rpc error: code = Unavailable desc = no pods available"
        raise CallError(StatusCode.INTERNAL, problem) from error
    talk.placed(ticket, ticket.endpoints)
    echo = {"x-echo-set-header": f"{_SERVED_HEADER}:{ticket.endpoints[0]}"}
    await talk.write(picked_response(ticket.endpoints, echo, None))


async def _unchanged(talk: Talk, kind: str) -> None:
    response = ProcessingResponse()
    getattr(response, kind).response.SetInParent()
    await talk.write(response)
