"""A picker that answers as GAIE's does and writes down every message of every stream.

It runs on threads of its own, so that whoever it is asked by may run anywhere.
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict

from batch_gateway.wire.ext_proc import messages_pb2 as wire
from batch_gateway.wire.ext_proc.names import DESTINATION, LB_NAMESPACE, PROCESS_METHOD

__all__ = ["Answering", "Conversation", "RecordingPicker", "running_recording_picker"]

_CHUNK = 62_000  # as GAIE cuts rewritten bodies
_LIMIT_S = 30.0


@dataclass(frozen=True)
class Answering:
    """How the next streams are answered.

    Attributes:
        endpoints: the choice and its fallbacks, in order.
        set_headers: set on the request beside the choice; pseudo-headers may be among them.
        rename: the value of "model" that the pod sees; the answer gets back the one asked for.
        refusal: status, dropped reason and body, instead of a choice.
        failure: what the stream is broken off with, as INTERNAL, instead of a choice.
        evict: give the request up once `RecordingPicker.evict` is called.
    """

    endpoints: Sequence[str] = ()
    set_headers: Sequence[tuple[str, str]] = ()
    rename: str | None = None
    refusal: tuple[int, str, str] | None = None
    failure: str = ""
    evict: bool = False


@dataclass
class Conversation:
    """What was said on one stream, in order, and how the asking side left it.

    Each message is a dict of JSON values: its kind, what it carried, and for bodies their size.
    `end` is "half-closed", "cancelled" or "broken off by the picker".
    """

    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    end: str = ""


class RecordingPicker:
    """The picker's port, and what it was told."""

    def __init__(self) -> None:
        self.port = 0
        self.answering = Answering()
        self._finished: queue.Queue[Conversation] = queue.Queue()
        self._evict = threading.Event()

    def evict(self) -> None:
        """Give up the request that runs."""
        self._evict.set()

    def conversation(self) -> Conversation:
        """The next stream that ended. Fails when none does in time."""
        return self._finished.get(timeout=_LIMIT_S)

    def process(
        self, requests: Iterator[wire.ProcessingRequest], context: grpc.ServicerContext
    ) -> Iterator[wire.ProcessingResponse]:
        conversation = Conversation()
        self._evict.clear()
        said = _Side(self.answering)
        incoming: queue.Queue[wire.ProcessingRequest | str] = queue.Queue()
        threading.Thread(
            target=self._listen, args=(requests, incoming, said.answering.evict), daemon=True
        ).start()
        context.add_callback(lambda: incoming.put("cancelled"))
        try:
            while not isinstance(message := incoming.get(timeout=_LIMIT_S), str):
                conversation.messages.append(_described(message))
                if said.answering.failure and message.request_body.end_of_stream:
                    context.abort(grpc.StatusCode.INTERNAL, said.answering.failure)
                yield from said.answers_to(message)
            if message == "evicted":
                yield said.evicted()
                message = incoming.get(timeout=_LIMIT_S)
            conversation.end = str(message)
        finally:
            conversation.end = conversation.end or "broken off by the picker"
            self._finished.put(conversation)

    def _listen(
        self,
        requests: Iterator[wire.ProcessingRequest],
        incoming: queue.Queue[wire.ProcessingRequest | str],
        evict: bool,
    ) -> None:
        if evict:
            threading.Thread(target=self._put_eviction, args=(incoming,), daemon=True).start()
        try:
            for message in requests:
                incoming.put(message)
            incoming.put("half-closed")
        except grpc.RpcError:
            incoming.put("cancelled")

    def _put_eviction(self, incoming: queue.Queue[wire.ProcessingRequest | str]) -> None:
        if self._evict.wait(_LIMIT_S):
            incoming.put("evicted")


@contextlib.contextmanager
def running_recording_picker() -> Iterator[RecordingPicker]:
    """A picker on a free port of 127.0.0.1, over plain HTTP/2."""
    picker = RecordingPicker()
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    service, _, method = PROCESS_METHOD.strip("/").partition("/")
    handler = grpc.stream_stream_rpc_method_handler(
        picker.process,
        request_deserializer=wire.ProcessingRequest.FromString,
        response_serializer=wire.ProcessingResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    picker.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield picker
    finally:
        server.stop(None).wait(_LIMIT_S)


class _Side:
    """The picker's side of one stream."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self._body = bytearray()
        self._headers: list[tuple[str, bytes]] = []
        self._streamed = False
        self._response = bytearray()
        self._model = ""

    def answers_to(self, message: wire.ProcessingRequest) -> Iterator[wire.ProcessingResponse]:
        kind = message.WhichOneof("request")
        if kind == "request_headers":
            headers = message.request_headers.headers.headers
            self._headers = [(one.key, one.raw_value) for one in headers]
            return
        if kind == "request_body":
            self._body += message.request_body.body
            if message.request_body.end_of_stream:
                yield from self._chosen()
        elif kind == "response_headers":
            yield self._response_headers(message.response_headers)
        elif kind == "response_body":
            yield from self._response_body(message.response_body)
        elif kind == "request_trailers":
            yield wire.ProcessingResponse(request_trailers=wire.TrailersResponse())
        else:
            yield wire.ProcessingResponse(response_trailers=wire.TrailersResponse())

    def evicted(self) -> wire.ProcessingResponse:
        return _refusal(429, "evicted", "request evicted")

    def _chosen(self) -> Iterator[wire.ProcessingResponse]:
        if self.answering.refusal is not None:
            yield _refusal(*self.answering.refusal)
            return
        body = bytes(self._body)
        if self.answering.rename is not None:
            asked = json.loads(body)
            self._model = asked["model"]
            body = json.dumps({**asked, "model": self.answering.rename}).encode()
        where = ",".join(self.answering.endpoints)
        headers = [(DESTINATION, where.encode()), ("content-length", b"%d" % len(body))]
        headers += [(name, value) for name, value in self._headers if not name.startswith(":")]
        headers += [(name, value.encode()) for name, value in self.answering.set_headers]
        common = wire.CommonResponse(header_mutation=_set(headers), clear_route_cache=True)
        answer = wire.ProcessingResponse(request_headers=wire.HeadersResponse(response=common))
        answer.dynamic_metadata.update({LB_NAMESPACE: {DESTINATION: where}})
        yield answer
        for streamed in _chunks(body):
            yield wire.ProcessingResponse(request_body=streamed)

    def _response_headers(self, headers: wire.HttpHeaders) -> wire.ProcessingResponse:
        self._streamed = any(
            one.key == "content-type" and b"event-stream" in one.raw_value
            for one in headers.headers.headers
        )
        common = wire.CommonResponse(header_mutation=_set([("x-went-into-resp-headers", b"true")]))
        return wire.ProcessingResponse(response_headers=wire.HeadersResponse(response=common))

    def _response_body(self, part: wire.HttpBody) -> Iterator[wire.ProcessingResponse]:
        if self._streamed:
            streamed = wire.StreamedBodyResponse(
                body=self._renamed_back(part.body), end_of_stream=part.end_of_stream
            )
            mutation = wire.BodyMutation(streamed_response=streamed)
            common = wire.CommonResponse(body_mutation=mutation)
            yield wire.ProcessingResponse(response_body=wire.BodyResponse(response=common))
            return
        self._response += part.body
        if part.end_of_stream:
            for streamed in _chunks(self._renamed_back(bytes(self._response))):
                yield wire.ProcessingResponse(response_body=streamed)

    def _renamed_back(self, body: bytes) -> bytes:
        if self.answering.rename is None:
            return body
        asked, given = (
            f'"model": "{name}"'.encode() for name in (self._model, self.answering.rename)
        )
        return body.replace(given, asked)


def _set(headers: Sequence[tuple[str, bytes]]) -> wire.HeaderMutation:
    options = [
        wire.HeaderValueOption(header=wire.HeaderValue(key=name, raw_value=value))
        for name, value in headers
    ]
    return wire.HeaderMutation(set_headers=options)


def _chunks(body: bytes) -> Iterator[wire.BodyResponse]:
    starts = range(0, max(len(body), 1), _CHUNK)
    for start in starts:
        streamed = wire.StreamedBodyResponse(
            body=body[start : start + _CHUNK], end_of_stream=start == starts[-1]
        )
        mutation = wire.BodyMutation(streamed_response=streamed)
        yield wire.BodyResponse(response=wire.CommonResponse(body_mutation=mutation))


def _refusal(status: int, reason: str, body: str) -> wire.ProcessingResponse:
    headers = [("x-llm-d-request-dropped-reason", reason.encode())] if reason else []
    refused = wire.ImmediateResponse(
        status=wire.HttpStatus(code=status), headers=_set(headers), body=body.encode()
    )
    return wire.ProcessingResponse(immediate_response=refused)


def _described(message: wire.ProcessingRequest) -> dict[str, Any]:
    kind = message.WhichOneof("request")
    assert kind is not None
    described: dict[str, Any] = {"kind": kind}
    part = getattr(message, kind)
    if kind.endswith("_headers"):
        described["headers"] = [_header(one) for one in part.headers.headers]
    elif kind.endswith("_trailers"):
        described["headers"] = [_header(one) for one in part.trailers.headers]
    else:
        described["size"] = len(part.body)
    if not kind.endswith("_trailers"):
        described["end_of_stream"] = part.end_of_stream
    for name in ("metadata_context", "protocol_config"):
        if message.HasField(name):
            whole = MessageToDict(getattr(message, name), preserving_proto_field_name=True)
            described[name] = whole
    if message.attributes:
        described["attributes"] = sorted(message.attributes)
    return described


def _header(one: wire.HeaderValue) -> list[str]:
    # Which of the two fields carries the value is part of what is compared.
    return [one.key, one.raw_value.decode("latin-1"), *([one.value] if one.value else [])]
