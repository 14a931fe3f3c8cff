"""What one message of an endpoint picker says, without protobuf's objects.

A picker says the same of the same pod, and of all answers that it lets pass, byte for byte. So what
a short message says is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from batch_gateway.picker.encode import (
    END_OF_STREAM,
    STREAMED_REQUEST,
    STREAMED_RESPONSE,
    streamed_head,
)
from batch_gateway.picker.endpoints import parse_endpoints
from batch_gateway.wire.ext_proc.messages_pb2 import (
    CommonResponse,
    HeaderMutation,
    ProcessingResponse,
)
from batch_gateway.wire.ext_proc.names import DESTINATION, LB_NAMESPACE

__all__ = ["Said", "read_message"]

# Longer ones have a body in them, which is another each time.
_LONGEST_REMEMBERED = 1024
_MOST_REMEMBERED = 512

# What begins with these is most often a body and nothing else.
_BODIES = {STREAMED_REQUEST: "request_body", STREAMED_RESPONSE: "response_body"}

_CONTINUE_AND_REPLACE = CommonResponse.ResponseStatus.CONTINUE_AND_REPLACE

# The body may be another than the one that was asked about; the transport counts its own.
_FRAMING = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message; names of headers are in lower case.

    Attributes:
        kind: the field of ProcessingResponse that is set.
        endpoints: the pods that it names in its metadata, best first; empty when it names none.
        replaces_body: whether the body comes with the answer to the headers.
        removed: the headers that are to be removed.
        set_on_request: those that are to be set on a request, as far as they are a picker's to set.
        pairs: all that are to be set, as bytes off the wire.
        how: the field of BodyMutation that is set.
        body: the body in it, or that of a refusal.
        is_so: whether the body is the last of it, or is to be cleared, as `how` says.
        status: that of a refusal.
    """

    kind: str | None
    endpoints: Sequence[str] = ()
    replaces_body: bool = False
    removed: tuple[str, ...] = ()
    set_on_request: dict[str, str] = {}
    pairs: tuple[tuple[bytes, bytes], ...] = ()
    how: str | None = None
    body: bytes = b""
    is_so: bool = False
    status: int = 0

    def __repr__(self) -> str:
        # The headers have the API key among them.
        return f"Said({self.kind}, {len(self.body)} bytes)"


def read_message(message: bytes) -> Said:
    """Raises DecodeError for what is not an ext_proc message."""
    kind = _BODIES.get(message[:1])
    if kind is not None:
        is_last = message.endswith(END_OF_STREAM)
        head = streamed_head(message[:1], len(message), is_last)
        if head and message.startswith(head):
            end = len(message) - len(END_OF_STREAM) if is_last else len(message)
            body = message[len(head) : end]
            return Said(kind=kind, how="streamed_response", body=body, is_so=is_last)
    return _remembered(message) if len(message) <= _LONGEST_REMEMBERED else _read(message)


def _read(message: bytes) -> Said:
    response = ProcessingResponse.FromString(message)
    kind = response.WhichOneof("response")
    if kind == "immediate_response":
        refusal = response.immediate_response
        return Said(
            kind=kind,
            pairs=_pairs_set(refusal.headers),
            body=refusal.body,
            status=refusal.status.code,
        )
    common = _common_of(kind, response)
    if common is None:
        return Said(kind=kind)
    mutation, body = common.header_mutation, common.body_mutation
    how = body.WhichOneof("mutation")
    streamed = body.streamed_response
    return Said(
        kind=kind,
        endpoints=_endpoints_in_metadata(response),
        replaces_body=common.status == _CONTINUE_AND_REPLACE,
        removed=tuple(name.lower() for name in mutation.remove_headers),
        set_on_request=_set_on_request(mutation),
        pairs=_pairs_set(mutation),
        how=how,
        body=streamed.body if how == "streamed_response" else body.body,
        is_so=streamed.end_of_stream if how == "streamed_response" else body.clear_body,
    )


_remembered = lru_cache(_MOST_REMEMBERED)(_read)


def _common_of(kind: str | None, response: ProcessingResponse) -> CommonResponse | None:
    if kind == "request_headers":
        return response.request_headers.response
    if kind == "request_body":
        return response.request_body.response
    if kind == "response_headers":
        return response.response_headers.response
    return response.response_body.response if kind == "response_body" else None


def _set_on_request(mutation: HeaderMutation) -> dict[str, str]:
    found: dict[str, str] = {}
    for option in mutation.set_headers:
        header = option.header
        name = header.key.lower()
        if name == "host":
            # HTTP/1's name of the same thing, which must not be there twice.
            name = ":authority"
        if name not in _FRAMING:
            found[name] = header.raw_value.decode("latin-1") or header.value
    return found


def _pairs_set(mutation: HeaderMutation) -> tuple[tuple[bytes, bytes], ...]:
    found: list[tuple[bytes, bytes]] = []
    for option in mutation.set_headers:
        header = option.header
        value = header.raw_value or header.value.encode("latin-1", "replace")
        found.append((header.key.lower().encode("latin-1", "replace"), value))
    return tuple(found)


def _endpoints_in_metadata(response: ProcessingResponse) -> Sequence[str]:
    if response.HasField("dynamic_metadata"):
        namespace = response.dynamic_metadata.fields.get(LB_NAMESPACE)
        if namespace is not None:
            named = namespace.struct_value.fields.get(DESTINATION)
            if named is not None:
                return parse_endpoints(named.string_value)
    return ()
