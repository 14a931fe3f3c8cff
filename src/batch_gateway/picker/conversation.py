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
from batch_gateway.picker.endpoints import parse_endpoints
from batch_gateway.picker.said import Said, read_message
from batch_gateway.wire.error_body import short_text
from batch_gateway.wire.ext_proc.names import DESTINATION
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.refusals import is_eviction
from batch_gateway.wire.scheduling_headers import DROPPED_REASON

__all__ = ["Choice", "Conversation"]

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
        "_said_of_head",
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
        self._said_of_head: Said | None = None
        self.choice: Choice | None = None
        self.refusal: HTTPResponse | None = None
        self.over = False
        self.head_echoed = False
        self.echo = Echo()

    # --- what the picker does ---

    def received(self, message: bytes) -> None:
        """It said `message`. Raises BadResponseError for what is no choice and no refusal."""
        try:
            said = read_message(message)
        except DecodeError as error:
            raise self._problem("sent what is not an ext_proc message") from error
        if said.kind == "immediate_response":
            self._refused(said)
        elif self._phase == _ASKED:
            self._answered(said)
        elif self._phase == _REPORTED:
            self._echoed(said)

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
        said = self._said_of_head
        if said is None:
            return status, headers
        for name, value in said.pairs:
            if name == b":status" and value.isdigit() and len(value) == 3:
                status = int(value)
        headers = _changed(headers, said)
        if self.echo.rewritten:
            headers = Headers([one for one in headers.raw if one[0].lower() != b"content-length"])
        return status, headers

    @property
    def excessive(self) -> bool:
        """Whether it has handed back more of an answer than may be held."""
        return self.echo.buffered > self._most

    # --- in detail ---

    def _refused(self, said: Said) -> None:
        self.over = True
        headers = Headers(list(said.pairs))
        if self.echo.reported_all and is_eviction(headers.get(DROPPED_REASON)):
            # The answer is here already, and the seat it took is free.
            return
        self.refusal = HTTPResponse(said.status or 500, headers, said.body)

    def _answered(self, said: Said) -> None:
        kind = said.kind
        if kind == "request_headers":
            self._headers_done = True
            if said.replaces_body:
                self._body = [said.body if said.how == "body" else b""]
                self._body_done = True
        elif kind == "request_body":
            self._take_body(said)
        elif kind in ("response_headers", "response_body"):
            raise self._problem("answered what it had not been asked")
        else:
            return
        # As Envoy does: first the removals, then each header that is set overwrites, whichever
        # append action it names (GAIE's pickers leave it at its default and mean that).
        for name in said.removed:
            if name[:1] != ":":
                self._headers.pop(name, None)
        if said.set_on_request:
            self._headers.update(said.set_on_request)
        # Either is enough (proposal 004).
        named = said.endpoints or self._endpoints
        self._endpoints = named or parse_endpoints(self._headers.get(DESTINATION, ""))
        if self._headers_done and self._body_done:
            self._choose()

    def _take_body(self, said: Said) -> None:
        if self._body_done:
            return
        if said.how == "streamed_response":
            self._streamed = True
            self._body.append(said.body)
            self._most_body -= len(said.body)
            if self._most_body < 0:
                raise self._problem("made the body to send too large: it sent on and on")
            self._body_done = said.is_so
            return
        if self._streamed:
            raise self._problem("mixed two ways of answering a body")
        original = self._pieces.pop(0)
        if said.how == "body":
            self._body.append(said.body)
        elif not said.is_so:
            self._body.append(original)
        self._body_done = not self._pieces

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

    def _echoed(self, said: Said) -> None:
        if said.kind == "response_headers":
            self.head_echoed = True
            if said.pairs or said.removed:
                self._said_of_head = said
        elif said.kind == "response_body":
            if said.how == "streamed_response":
                self.echo.streamed(said.body, last=said.is_so)
                if self.echo.buffered > self._most:
                    raise self._problem("handed back more of an answer than max_response_bytes")
            elif said.how == "body":
                self.echo.replaced(said.body)
            elif said.is_so:
                self.echo.replaced(b"")
            else:
                self.echo.unchanged()

    def _problem(self, what: str) -> BadResponseError:
        return BadResponseError(f"the endpoint picker {self._picker} {what}")


def _changed(headers: Headers, said: Said) -> Headers:
    gone = {name for name, _ in said.pairs}
    gone.update(name.encode("latin-1", "replace") for name in said.removed)
    kept = [pair for pair in headers.raw if pair[0].lower() not in gone]
    return Headers(kept + [pair for pair in said.pairs if pair[0][:1] != b":"])
