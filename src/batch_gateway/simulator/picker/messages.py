"""Building and reading ext_proc messages as llm-d's picker does.

Sources: llm-d-router, pkg/epp/handlers/{server,request,response}.go and pkg/common/envoy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from batch_gateway.simulator.answers.replies import Reply
from batch_gateway.simulator.picker.decisions import SeenMessage
from batch_gateway.wire.ext_proc.messages_pb2 import (
    HeaderMap,
    HeaderMutation,
    ProcessingRequest,
    ProcessingResponse,
)
from batch_gateway.wire.ext_proc.names import (
    DESTINATION,
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    LB_NAMESPACE,
    SUBSET_NAMESPACE,
)
from batch_gateway.wire.scheduling_headers import (
    DROPPED_REASON,
    FAIRNESS_ID,
    MODEL_REWRITE,
    OBJECTIVE,
    TIME_PER_TOKEN,
    TIME_TO_FIRST_TOKEN,
)

__all__ = [
    "CHUNK_BYTES",
    "echoed_headers",
    "immediate_response",
    "picked_response",
    "read_headers",
    "request_body_responses",
    "response_body_responses",
    "seen_request",
    "seen_response",
    "served_endpoint",
    "subset_of",
    "trailers_response",
]

CHUNK_BYTES = 62_000
"""Of a body in one message: some data planes take no more than 64 KB."""

# The headers of one request that a picker reads or owns, and which it does not pass on.
_OWNED = frozenset(
    {
        *OBJECTIVE,
        *FAIRNESS_ID,
        *MODEL_REWRITE,
        *TIME_TO_FIRST_TOKEN,
        *TIME_PER_TOKEN,
        DESTINATION,
        DESTINATION_SERVED,
        DESTINATION_SUBSET,
        DROPPED_REASON,
        "content-length",
    }
)


def read_headers(headers: HeaderMap) -> dict[str, str]:
    """By lower-case name; a raw value goes before one that is not."""
    return {
        header.key.lower(): header.raw_value.decode("latin-1") or header.value
        for header in headers.headers
    }


def subset_of(message: ProcessingRequest) -> frozenset[str] | None:
    """The endpoints that a message's metadata restricts the choice to; None where it does not."""
    spaces = message.metadata_context.filter_metadata
    if SUBSET_NAMESPACE not in spaces or DESTINATION_SUBSET not in spaces[SUBSET_NAMESPACE].fields:
        return None
    value = spaces[SUBSET_NAMESPACE].fields[DESTINATION_SUBSET]
    texts = (
        [item.string_value for item in value.list_value.values]
        if value.HasField("list_value")
        else [value.string_value]
    )
    names = (name.strip() for text in texts for name in text.split(","))
    return frozenset(name for name in names if name)


def served_endpoint(message: ProcessingRequest) -> str:
    """The endpoint that, says the data plane, has served the request; "" when it does not say."""
    spaces = message.metadata_context.filter_metadata
    if LB_NAMESPACE not in spaces or DESTINATION_SERVED not in spaces[LB_NAMESPACE].fields:
        return ""
    return spaces[LB_NAMESPACE].fields[DESTINATION_SERVED].string_value


def picked_response(
    endpoints: Sequence[str], headers: Mapping[str, str], content_length: int | None
) -> ProcessingResponse:
    """The answer to the request headers: where to send it, and the headers to send."""
    response = ProcessingResponse()
    common = response.request_headers.response
    common.clear_route_cache = True
    destination = ",".join(endpoints)
    _set(common.header_mutation, DESTINATION, destination)
    if content_length is not None:
        _set(common.header_mutation, "Content-Length", str(content_length))
    for name, value in headers.items():
        if name not in _OWNED:
            _set(common.header_mutation, name, value)
    balancer = response.dynamic_metadata.fields[LB_NAMESPACE].struct_value
    balancer.fields[DESTINATION].string_value = destination
    return response


def echoed_headers(headers: Mapping[str, str], extra: Mapping[str, str]) -> ProcessingResponse:
    """The answer to the response headers: all of them again, and the picker's own."""
    response = ProcessingResponse()
    mutation = response.response_headers.response.header_mutation
    _set(mutation, "x-went-into-resp-headers", "true")
    for name, value in {**headers, **extra}.items():
        if name not in _OWNED:
            _set(mutation, name, value)
    return response


def request_body_responses(
    body: bytes, chunk_bytes: int = CHUNK_BYTES
) -> Iterable[ProcessingResponse]:
    """The body to send, in chunks, the last of which says so."""
    for chunk, last in _chunks(body, chunk_bytes):
        response = ProcessingResponse()
        streamed = response.request_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = last
        yield response


def response_body_responses(body: bytes, *, end: bool) -> Iterable[ProcessingResponse]:
    """Part of the response to hand on, in chunks; the last says `end`."""
    for chunk, last in _chunks(body, CHUNK_BYTES):
        response = ProcessingResponse()
        streamed = response.response_body.response.body_mutation.streamed_response
        streamed.body = chunk
        streamed.end_of_stream = last and end
        yield response


def trailers_response() -> ProcessingResponse:
    """The answer to the response trailers: as they are."""
    response = ProcessingResponse()
    response.response_trailers.SetInParent()
    return response


def immediate_response(reply: Reply) -> ProcessingResponse:
    """A final answer in the picker's own name."""
    response = ProcessingResponse()
    immediate = response.immediate_response
    immediate.status.code = reply.status
    immediate.body = reply.body
    for name, value in reply.headers:
        _set(immediate.headers, name, value)
    return response


def _chunks(body: bytes, size: int) -> Iterable[tuple[bytes, bool]]:
    for start in range(0, max(len(body), 1), size):
        yield body[start : start + size], start + size >= len(body)


def _set(mutation: HeaderMutation, name: str, value: str) -> None:
    # append_action stays unset, as the real picker leaves it: data planes overwrite.
    header = mutation.set_headers.add().header
    header.key = name
    header.raw_value = value.encode("latin-1", "replace")


def seen_request(message: ProcessingRequest) -> SeenMessage:
    """What the record of a conversation says of a message from the data plane."""
    kind = message.WhichOneof("request") or "empty"
    if kind in ("request_headers", "response_headers"):
        return SeenMessage("data-plane", kind, 0, getattr(message, kind).end_of_stream)
    if kind in ("request_body", "response_body"):
        part = getattr(message, kind)
        return SeenMessage("data-plane", kind, len(part.body), part.end_of_stream)
    return SeenMessage("data-plane", kind)


def seen_response(message: ProcessingResponse) -> SeenMessage:
    """What the record of a conversation says of a message from the picker."""
    kind = message.WhichOneof("response") or "empty"
    if kind in ("request_body", "response_body"):
        streamed = getattr(message, kind).response.body_mutation.streamed_response
        return SeenMessage("picker", kind, len(streamed.body), streamed.end_of_stream)
    if kind == "immediate_response":
        return SeenMessage("picker", kind, len(message.immediate_response.body), end=True)
    return SeenMessage("picker", kind)
