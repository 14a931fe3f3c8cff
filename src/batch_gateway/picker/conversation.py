"""What an endpoint picker says on one stream, and what that means: every decision, no I/O.

The order on the wire (ext_proc, full-duplex): the request's headers and body go out; the picker
answers with headers, which choose pods, and then with the body to send, or refuses with an
immediate response. The answer's headers and body are reported the same way and come back the
same way. An immediate response may come at any time until then. Each side may end early.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from google.protobuf.message import DecodeError

from batch_gateway.errors import BadResponseError
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.picker.echo import Echo
from batch_gateway.picker.mutation import (
    apply_to_request,
    apply_to_response,
    endpoints_in_headers,
    endpoints_in_metadata,
    pairs_set,
)
from batch_gateway.wire.error_body import short_text
from batch_gateway.wire.ext_proc.messages_pb2 import (
    CommonResponse,
    HeaderMutation,
    ImmediateResponse,
    ProcessingResponse,
)
from batch_gateway.wire.ext_proc.names import DESTINATION
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.refusals import is_eviction
from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = ["Choice", "Conversation"]

_CONTINUE_AND_REPLACE = CommonResponse.ResponseStatus.CONTINUE_AND_REPLACE

# Beyond twice what was asked about; a picker that goes on and on must not fill memory.
_MOST_ADDED = 64 * 1024 * 1024


# What has happened last: plain numbers, because they are looked at for every message.
_ASKED, _CHOSEN, _REPORTED = range(3)


class Choice(msgspec.Struct, frozen=True):
    """Where a request goes, and as what.

    Attributes:
        endpoints: pods as "ip:port", best first, never empty.
        headers: by lower-case name, pseudo headers (":path" and others) included.
        body: what to send.
    """

    endpoints: Sequence[str]
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        # The headers have the API key among them.
        return f"Choice({', '.join(self.endpoints)}, {len(self.body)} bytes)"


class Conversation:
    """One stream as seen from the data plane.

    Args:
        picker: how messages name it.
        headers: as asked about, by lower-case name. Changed in place.
        pieces: the body as it was cut into messages; at least one.
        most: bytes of an answer that are held for whoever takes it.

    Attributes:
        choice: set as soon as nothing is missing to send the request.
        refusal: the immediate response, which is the answer to the request.
        over: the picker says no more.
        echo: the body of the answer, on its way there and back.
    """

    __slots__ = (
        "_body",
        "_body_done",
        "_endpoints",
        "_headers",
        "_headers_done",
        "_most",
        "_most_body",
        "_phase",
        "_picker",
        "_pieces",
        "_response_mutation",
        "_streamed",
        "choice",
        "echo",
        "head_echoed",
        "over",
        "refusal",
    )

    def __init__(
        self,
        picker: str,
        headers: dict[str, str],
        pieces: Sequence[bytes],
        *,
        most: int = _MOST_ADDED,
    ) -> None:
        self._picker = picker
        self._most = most
        self._most_body = _MOST_ADDED + 2 * sum(map(len, pieces))
        self._headers = headers
        self._pieces = list(pieces)
        self._body: list[bytes] = []
        self._endpoints: Sequence[str] = ()
        self._phase = _ASKED
        self._headers_done = self._body_done = self._streamed = False
        self._response_mutation: HeaderMutation | None = None
        self.choice: Choice | None = None
        self.refusal: HTTPResponse | None = None
        self.over = False
        self.head_echoed = False
        self.echo = Echo()

    # --- what the picker does ---

    def received(self, message: bytes) -> None:
        """It said `message`. Raises BadResponseError for what is no choice and no refusal."""
        try:
            response = ProcessingResponse.FromString(message)
        except DecodeError as error:
            raise self._problem("sent what is not an ext_proc message") from error
        kind = response.WhichOneof("response")
        if kind == "immediate_response":
            self._refused(response.immediate_response)
        elif self._phase == _ASKED:
            self._answered(kind, response)
        elif self._phase == _REPORTED:
            self._echoed(kind, response)

    def ended(self) -> None:
        """It closed the stream in good order.

        Raises BadResponseError when that leaves a request without a choice.
        """
        self.over = True
        if self.refusal is None and self._phase == _ASKED:
            if not self._headers_done:
                raise self._problem("closed the stream without choosing a pod")
            if self._streamed:
                raise self._problem("closed the stream in the middle of the body to send")
            self._body += self._pieces
            self._body_done = True
            self._choose()

    # --- what is reported to it ---

    def reporting(self) -> None:
        """The pod's answer is being reported from here on."""
        self._phase = _REPORTED
        self.head_echoed = False

    def head(self, status: int, headers: Headers) -> tuple[int, Headers]:
        """The answer's status and headers with what the picker has changed about them."""
        mutation = self._response_mutation
        if mutation is None:
            return status, headers
        pairs = pairs_set(mutation)
        for name, value in pairs:
            if name == b":status" and value.isdigit() and len(value) == 3:
                status = int(value)
        headers = apply_to_response(mutation, pairs, headers)
        if self.echo.rewritten:
            headers = Headers([one for one in headers.raw if one[0].lower() != b"content-length"])
        return status, headers

    @property
    def excessive(self) -> bool:
        """Whether it has handed back more of an answer than may be held."""
        return self.echo.buffered > self._most

    # --- in detail ---

    def _refused(self, immediate: ImmediateResponse) -> None:
        self.over = True
        headers = Headers(pairs_set(immediate.headers))
        if self.echo.reported_all and is_eviction(headers.get(DROPPED_REASON)):
            # The answer is here already, and the seat it took is free.
            return
        status = immediate.status.code or 500
        self.refusal = HTTPResponse(status, headers, immediate.body)

    def _answered(self, kind: str | None, response: ProcessingResponse) -> None:
        if kind == "request_headers":
            self._headers_done = True
            common = response.request_headers.response
            if common.status == _CONTINUE_AND_REPLACE:
                self._replace(common)
        elif kind == "request_body":
            common = response.request_body.response
            self._take_body(common)
        elif kind in ("response_headers", "response_body"):
            raise self._problem("answered what it had not been asked")
        else:
            return
        if common.HasField("header_mutation"):
            apply_to_request(common.header_mutation, self._headers)
        self._endpoints = (
            endpoints_in_metadata(response)
            or self._endpoints
            or endpoints_in_headers(self._headers)
        )
        if self._headers_done and self._body_done:
            self._choose()

    def _take_body(self, common: CommonResponse) -> None:
        if self._body_done:
            return
        mutation = common.body_mutation
        which = mutation.WhichOneof("mutation")
        if which == "streamed_response":
            piece = mutation.streamed_response
            body = piece.body
            self._streamed = True
            self._body.append(body)
            self._most_body -= len(body)
            if self._most_body < 0:
                raise self._problem("made the body to send too large: it sent on and on")
            self._body_done = piece.end_of_stream
            return
        if self._streamed:
            raise self._problem("mixed two ways of answering a body")
        original = self._pieces.pop(0)
        if which == "body":
            self._body.append(mutation.body)
        elif which is None or not mutation.clear_body:
            self._body.append(original)
        self._body_done = not self._pieces

    def _replace(self, common: CommonResponse) -> None:
        self._body = [common.body_mutation.body]
        self._body_done = True

    def _choose(self) -> None:
        if not self._endpoints:
            named = self._headers.get(DESTINATION)
            what = "no pod" if named is None else f"no usable pod: {short_text(named, 60)!r}"
            raise self._problem(f"chose {what}")
        self._phase = _CHOSEN
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        # A large body is not to be held more often than must be while a pod works on it.
        self._body = self._pieces = []
        self.choice = Choice(self._endpoints, self._headers, body)

    def _echoed(self, kind: str | None, response: ProcessingResponse) -> None:
        if kind == "response_headers":
            self.head_echoed = True
            common = response.response_headers.response
            if common.HasField("header_mutation"):
                self._response_mutation = common.header_mutation
        elif kind == "response_body":
            mutation = response.response_body.response.body_mutation
            which = mutation.WhichOneof("mutation")
            if which == "streamed_response":
                piece = mutation.streamed_response
                self.echo.streamed(piece.body, last=piece.end_of_stream)
                if self.excessive:
                    raise self._problem("handed back more of an answer than max_response_bytes")
            elif which == "body":
                self.echo.replaced(mutation.body)
            elif which == "clear_body" and mutation.clear_body:
                self.echo.replaced(b"")
            else:
                self.echo.unchanged()

    def _problem(self, what: str) -> BadResponseError:
        return BadResponseError(f"the endpoint picker {self._picker} {what}")
