"""What a fault does to a conversation, at each of its steps."""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from batch_gateway.simulator.answers.replies import LLMD_REFUSALS, PLAIN, Reply, RequestError
from batch_gateway.simulator.picker.messages import CHUNK_BYTES
from batch_gateway.simulator.picker.picker_faults import REFUSALS, PickerFault
from batch_gateway.simulator.picker.rpc.served_call import CallError
from batch_gateway.wire.ext_proc.messages_pb2 import ProcessingResponse
from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = ["BreakableStream", "ConversationOver", "Misbehaviour", "eviction_reply"]

# Nothing listens on TCP's reserved ports of this address.
_DEAD_HOST = "127.0.0.1"


_FLUSH_SECONDS = 0.005


class BreakableStream(Protocol):
    """A stream that can end in ways it should not."""

    async def write(self, message: ProcessingResponse) -> None: ...
    def reset(self, code: int) -> None:
        """RST_STREAM with this HTTP/2 error."""
        ...

    def reset_connection(self) -> None:
        """TCP reset."""
        ...

    def go_away(self, code: int) -> None:
        """GOAWAY with this HTTP/2 error."""
        ...


class ConversationOver(Exception):  # noqa: N818 - no error, it was asked for
    """The fault has ended the call; `outcome` is what the decision says of it."""

    def __init__(self, outcome: str) -> None:
        super().__init__(outcome)
        self.outcome = outcome


def eviction_reply(reason: str) -> Reply:
    """What the real picker says when flow control takes a request back."""
    body = b"request evicted by flow control"
    return Reply(429, body, PLAIN, ((DROPPED_REASON, reason),))


class Misbehaviour:
    """One fault, or none, asked at every step what becomes of it."""

    def __init__(self, fault: PickerFault | None) -> None:
        self._fault = fault

    def _is(self, name: str) -> bool:
        return self._fault is not None and self._fault.name == name

    @property
    def lightweight(self) -> bool:
        return self._is("lightweight")

    @property
    def old_headers_only(self) -> bool:
        return self._is("old-headers")

    @property
    def ignores_responses(self) -> bool:
        return self._is("silent-response")

    @property
    def chunk_bytes(self) -> int:
        fault = self._fault
        if fault is not None and fault.name == "small-chunks":
            return max(1, fault.number)
        return CHUNK_BYTES

    # -- moments ---------------------------------------------------------------------------

    async def strike(self, moment: str, stream: BreakableStream) -> None:
        """Do what has to be done at this moment.

        Raises ConversationOver when that ends the call, CallError when it ends it with a status.
        """
        fault = self._fault
        if fault is None or fault.at != moment:
            return
        # What was said before goes out first: a reset would drop it.
        await asyncio.sleep(max(fault.after, 0 if moment == "start" else _FLUSH_SECONDS))
        if fault.name == "goaway":
            stream.go_away(fault.number)
        elif fault.name == "grpc-status":
            raise CallError(fault.number, fault.options.get("says", "asked for by the request"))
        else:
            self._end(fault, stream)

    @staticmethod
    def _end(fault: PickerFault, stream: BreakableStream) -> None:
        if fault.name == "reset-stream":
            stream.reset(fault.number)
        elif fault.name == "reset-connection":
            stream.reset_connection()
        raise ConversationOver("unreported" if fault.name == "early-close" else "failed")

    async def before_pick(self) -> None:
        """Wait, or refuse. Raises RequestError."""
        fault = self._fault
        if fault is None:
            return
        if fault.name == "hang":
            await asyncio.get_running_loop().create_future()
        elif fault.name == "slow-pick":
            await asyncio.sleep(fault.seconds)
        elif fault.name in REFUSALS:
            raise RequestError(LLMD_REFUSALS[fault.name])
        elif fault.name == "status":
            body = f"inference error: status {fault.argument} was asked for".encode()
            raise RequestError(Reply(fault.number, body, PLAIN))

    # -- what is said ----------------------------------------------------------------------

    def endpoints(self, chosen: list[str]) -> list[str]:
        """Where the request is said to go."""
        fault = self._fault
        if fault is None or fault.name not in ("dead-first", "all-dead"):
            return chosen
        dead = [f"{_DEAD_HOST}:{port}" for port in range(1, 1 + fault.number)]
        return dead if fault.name == "all-dead" else [*dead, *chosen]

    def body(self, body: bytes) -> bytes:
        """The body that is sent on."""
        fault = self._fault
        if fault is None or fault.name != "grow-body":
            return body
        fields = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        fields["user"] = msgspec.Raw(b'"%b"' % (b"x" * fault.number))
        return msgspec.json.encode(fields)

    def shape(self, picked: ProcessingResponse) -> ProcessingResponse:
        """The answer to the request headers."""
        fault = self._fault
        if fault is None:
            return picked
        mutation = picked.request_headers.response.header_mutation
        if fault.name in ("only-metadata", "no-destination"):
            del mutation.set_headers[0]
        if fault.name in ("only-header", "no-destination"):
            picked.ClearField("dynamic_metadata")
        if fault.name == "path":
            for option in mutation.set_headers:
                if option.header.key == ":path":
                    option.header.raw_value = fault.argument.encode()
        elif fault.name == "remove-header":
            mutation.remove_headers.append(fault.argument)
        elif fault.name == "set-header":
            header = mutation.set_headers.add().header
            header.key, _, value = fault.argument.partition(":")
            header.raw_value = value.encode()
        return picked
