"""A data plane for tests of the picker: grpcio's client, and one connection a call to the pods."""

from __future__ import annotations

import json
import queue
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import grpc

from batch_gateway.wire.ext_proc.messages_pb2 import (
    HeaderMap,
    HeaderMutation,
    ProcessingRequest,
    ProcessingResponse,
    ProtocolConfiguration,
)
from batch_gateway.wire.ext_proc.names import (
    DESTINATION,
    DESTINATION_SERVED,
    DESTINATION_SUBSET,
    LB_NAMESPACE,
    PROCESS_METHOD,
    SUBSET_NAMESPACE,
)

__all__ = ["CHAT", "Call", "DataPlane", "Picked", "data_plane", "set_headers"]

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hello!"}]}
_LIMIT = 120.0  # seconds that a busy machine may take for a call


class Picked(NamedTuple):
    """The picker's answer to one request."""

    endpoints: list[str]
    headers: dict[str, str]
    body: bytes


class Call:
    """One stream, message by message."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._outgoing: queue.Queue[ProcessingRequest | None] = queue.Queue()
        method = channel.stream_stream(
            PROCESS_METHOD,
            request_serializer=ProcessingRequest.SerializeToString,
            response_deserializer=ProcessingResponse.FromString,
        )
        self._call: Any = method(iter(self._outgoing.get, None), timeout=_LIMIT)

    def send(self, message: ProcessingRequest) -> None:
        self._outgoing.put(message)

    def half_close(self) -> None:
        self._outgoing.put(None)

    def receive(self) -> ProcessingResponse | None:
        """The next message, None when the picker ended the stream with OK."""
        return next(self._call, None)

    def cancel(self) -> None:
        self._call.cancel()
        self.half_close()

    def finish(self) -> list[ProcessingResponse]:
        """Half-close, and everything that still comes."""
        self.half_close()
        return list(self._call)

    # -- the steps of a request ------------------------------------------------------------

    def send_request(
        self,
        body: object = CHAT,
        headers: Mapping[str, str] | None = None,
        *,
        subset: Sequence[str] | None = None,
        chunk: int = 1_000_000,
    ) -> None:
        """Headers and body, as Envoy sends them."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(request_headers(headers or {}, subset))
        for start in range(0, max(1, len(raw)), chunk):
            message = ProcessingRequest()
            message.request_body.body = raw[start : start + chunk]
            message.request_body.end_of_stream = start + chunk >= len(raw)
            _restrict(message, subset)
            self.send(message)

    def receive_pick(self) -> Picked:
        first = self.receive()
        assert first is not None
        assert first.HasField("request_headers"), first
        headers = set_headers(first.request_headers.response.header_mutation)
        named = first.dynamic_metadata.fields[LB_NAMESPACE].struct_value.fields[DESTINATION]
        assert named.string_value == headers[DESTINATION]
        body = bytearray()
        while True:
            message = self.receive()
            assert message is not None
            streamed = message.request_body.response.body_mutation.streamed_response
            assert len(streamed.body) <= 62_000
            body += streamed.body
            if streamed.end_of_stream:
                return Picked(headers[DESTINATION].split(","), headers, bytes(body))

    def send_response(
        self,
        status: int,
        headers: Mapping[str, str],
        parts: Sequence[bytes],
        served: str,
        *,
        end: bool = True,
    ) -> None:
        """Report what the pod answered."""
        message = ProcessingRequest()
        _add(message.response_headers.headers, {":status": str(status), **headers})
        space = message.metadata_context.filter_metadata[LB_NAMESPACE]
        space.fields[DESTINATION_SERVED].string_value = served
        self.send(message)
        for number, part in enumerate(parts, start=1):
            message = ProcessingRequest()
            message.response_body.body = part
            message.response_body.end_of_stream = end and number == len(parts)
            self.send(message)


class DataPlane:
    """Asks a picker, and carries requests through."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._calls: list[Call] = []

    def call(self) -> Call:
        call = Call(self._channel)
        self._calls.append(call)
        return call

    def close(self) -> None:
        """End every call that is open. grpcio has a thread wait for each, for the next message."""
        for call in self._calls:
            call.cancel()

    def pick(self, body: object = CHAT, **settings: Any) -> Picked:
        """One question; the stream is half-closed behind it."""
        call = self.call()
        call.send_request(body, **settings)
        picked = call.receive_pick()
        assert call.finish() == []
        return picked

    def refusal(self, body: object = CHAT, **settings: Any) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of the picker's own answer."""
        call = self.call()
        call.send_request(body, **settings)
        message = call.receive()
        assert message is not None
        assert call.finish() == []
        immediate = message.immediate_response
        return immediate.status.code, set_headers(immediate.headers), immediate.body

    def carry(self, body: object = CHAT, **settings: Any) -> bytes:
        """The whole way: picker, pod, and back through the picker."""
        call = self.call()
        call.send_request(body, **settings)
        picked = call.receive_pick()
        status, headers, answer = _post(picked)
        call.send_response(status, headers, [answer], served=picked.endpoints[0])
        echoes = call.finish()
        assert echoes[0].HasField("response_headers")
        return b"".join(
            echo.response_body.response.body_mutation.streamed_response.body for echo in echoes[1:]
        )


@contextmanager
def data_plane(url: str) -> Iterator[DataPlane]:
    """A data plane that asks the picker under this URL."""
    # Otherwise it may share a connection of an earlier one, which has gone with its picker.
    own = [("grpc.use_local_subchannel_pool", 1)]
    channel = grpc.insecure_channel(url.removeprefix("grpc://"), options=own)
    with channel, closing(DataPlane(channel)) as plane:
        yield plane


def request_headers(
    headers: Mapping[str, str], subset: Sequence[str] | None = None
) -> ProcessingRequest:
    """The first message of a stream."""
    message = ProcessingRequest()
    fixed = {
        ":method": "POST",
        ":path": "/v1/chat/completions",
        ":scheme": "http",
        ":authority": "gateway",
        "content-type": "application/json",
    }
    _add(message.request_headers.headers, {**fixed, **headers})
    modes = ProtocolConfiguration.FULL_DUPLEX_STREAMED
    message.protocol_config.request_body_mode = modes
    message.protocol_config.response_body_mode = modes
    _restrict(message, subset)
    return message


def set_headers(mutation: HeaderMutation) -> dict[str, str]:
    """What a mutation sets, by lower-case name."""
    return {
        option.header.key.lower(): option.header.raw_value.decode()
        for option in mutation.set_headers
    }


def _add(target: HeaderMap, headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        header = target.headers.add()
        header.key, header.raw_value = name, value.encode()


def _restrict(message: ProcessingRequest, subset: Sequence[str] | None) -> None:
    if subset is not None:
        space = message.metadata_context.filter_metadata[SUBSET_NAMESPACE]
        space.update({DESTINATION_SUBSET: list(subset)})


def _post(picked: Picked) -> tuple[int, dict[str, str], bytes]:
    headers = {k: v for k, v in picked.headers.items() if not k.startswith((":", "content-len"))}
    request = urllib.request.Request(
        f"http://{picked.endpoints[0]}{picked.headers[':path']}", picked.body, headers
    )
    with urllib.request.urlopen(request, timeout=_LIMIT) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, response.read()
