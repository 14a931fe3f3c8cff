"""Bytes in, one HTTP response out: llhttp's events gathered, limited and judged. No I/O."""

from __future__ import annotations

from typing import Protocol

from httptools import HttpParserCallbackError, HttpParserError, HttpResponseParser

from batch_gateway.errors import BadResponseError, GatewayConnectionError
from batch_gateway.http.connection_errors import other_protocol, too_large, too_large_error
from batch_gateway.http.exchange import HTTPResponse
from batch_gateway.http.odd_chunks import RegularChunks
from batch_gateway.http.odd_head import is_head, mended
from batch_gateway.wire.headers import Headers
from batch_gateway.wire.transfer_chunks import LAST_CHUNK, is_event_chunk

__all__ = ["MAX_HEADERS", "MAX_HEAD_BYTES", "BodySink", "ResponseReader"]

# llhttp has no limits of its own. Interim (1xx) responses count towards both.
MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 1000

_TOLD = Headers()

# A head of which the parser is told later, if at all, and its headers.
_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKED = [(b"Transfer-Encoding", b"chunked")]


class BodySink(Protocol):
    """Takes a response's head, and its body as it comes."""

    def head_received(self, status_code: int, headers: Headers) -> None: ...
    def body_received(self, data: bytes) -> None: ...


class ResponseReader:
    """Reads the responses of one connection, one after another.

    `begin()`, then `feed()` what arrives until it returns a response, or `finish()` when the
    connection ends first. With a `BodySink`, which has bounds of its own, the body goes there
    as it came, and the response's own is empty.

    Attributes:
        received: bytes of the current response so far, headers included.
        keep_alive: after a response, whether the connection may carry another.
        streamed: bytes of its body that a `BodySink` has got. Whoever takes a chunk by himself adds
            its size.
        is_between_chunks: whether what comes next is known to begin a chunk, so that whole ones
            need not be fed.
    """

    __slots__ = (
        "_body",
        "_body_seen",
        "_chunks",
        "_complete",
        "_counted",
        "_head_complete",
        "_headers",
        "_is_odd",
        "_max_body",
        "_parser",
        "_peer",
        "_pieces",
        "_start",
        "_status",
        "_stream",
        "_undecodable",
        "_unread",
        "_without_body",
        "is_between_chunks",
        "keep_alive",
        "on_body",
        "received",
        "streamed",
    )

    def __init__(self, peer: str, max_body: int) -> None:
        self._peer = peer
        self._max_body = max_body
        # Behind a response that makes one of these true, the connection is closed.
        self._undecodable = ""
        self._is_odd = False
        # What had come before a body began: see `_read_as_odd`.
        self._start = b""
        self._counted = False
        self._chunks: RegularChunks | None = None
        self._body_seen: int = 0
        self._without_body = 0
        self._pieces: list[bytes] = []
        # Called by httptools; each token may be a chunk of the coding.
        self.on_body = self._pieces.append
        self._parser = HttpResponseParser(self)
        # Blanks behind a chunk's size pad it to a fixed width; they change nothing it can mean.
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self.begin()

    def begin(self, stream: BodySink | None = None) -> None:
        """Expect a new response."""
        self._stream = stream
        self.streamed = 0
        self._pieces.clear()
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: bytes | bytearray = b""
        self._status = 0
        self._head_complete = False
        self._complete = False
        if self._counted:
            self._counted = False
            self._start, self._body_seen, self._without_body = b"", 0, 0
        self.keep_alive = self.is_between_chunks = False
        self.received = 0
        self._unread = b""  # The head that the parser has to hear of before it can read on.

    def begin_chunked(self, data: bytes, *, has_chunks: bool) -> None:
        """`data` begins such a response, and chunks come next; the parser has heard of neither."""
        self._unread, self.received = _CHUNKED_HEAD, len(data)
        self._status, self._headers, self._head_complete = 200, _CHUNKED, True
        self.is_between_chunks = True
        if not has_chunks:
            self._start, self._without_body, self._counted = data, len(data), True

    def take_chunks(self, body: bytes, is_last: bool) -> HTTPResponse | None:
        """What whole chunks have brought between others, as `feed` would."""
        stream = self._stream
        if stream is not None and body:
            self.streamed += len(body)
            stream.body_received(body)
        if not is_last:
            return None
        if not self._unread:
            return self.feed(LAST_CHUNK)
        self.keep_alive = True
        return self._response()

    def close(self) -> None:
        """Let go of the parser, which holds this object's methods and so keeps it alive."""
        del self._parser

    def feed(self, data: bytes) -> HTTPResponse | None:
        """Take in bytes; the response once it is complete.

        Raises BadResponseError for anything that is not HTTP/1 or is over a limit.
        """
        self.received += len(data)
        has_streamed = self.is_between_chunks = False
        try:
            if self._is_odd:
                self._read_as_odd(data)
            else:
                unread, self._unread = self._unread, b""
                self._parser.feed_data(unread + data if unread else data)
        except HttpParserError as error:
            if not self._complete and not self._undecodable and not self._becomes_odd(error, data):
                raise self._problem(error, data) from error
            # Whatever came after a complete response, or is too much, is not ours to read.
            self.keep_alive = False
        finally:
            pieces = self._pieces
            if pieces:
                is_one = len(pieces) == 1
                body = pieces[0] if is_one else b"".join(pieces)
                pieces.clear()
                if self._stream is None:
                    self._add(body)
                else:
                    has_streamed = True
                    self.streamed += len(body)
                    is_plain = is_one and not self._is_odd
                    self.is_between_chunks = is_plain and is_event_chunk(data, body)
                    self._stream.body_received(body)
        if self._complete or self._undecodable:
            return self._response()
        if not has_streamed:
            self._count(data)
        elif self._without_body:
            self._without_body, self._start = 0, b""
        return None

    def _add(self, body: bytes) -> None:
        received = len(self._body) + len(body)
        if received > self._max_body:
            self._refuse_size()
        elif not self._body:
            self._body = body
        elif isinstance(self._body, bytearray):
            self._body += body
        else:
            # Only a body in several pieces is worth a growing buffer; most come in one. A list
            # of the pieces would let a server that sends tiny chunks use up far more memory
            # than the limit says.
            self._body = bytearray(self._body) + body

    def _count(self, data: bytes) -> None:
        """Keep what does not belong to a body within bounds."""
        self._counted = True
        body: int = len(self._body)
        if body != self._body_seen:
            self._body_seen, self._without_body, self._start = body, 0, b""
            return
        self._without_body += len(data)
        if self._without_body > MAX_HEAD_BYTES:
            raise self._too_many_headers()
        if not body and not self.streamed:
            self._start += data

    def finish(self) -> HTTPResponse:
        """The response, when the end of the connection is what ends it.

        Raises BadResponseError when the body was cut short and GatewayConnectionError when
        the headers were.
        """
        if not self._head_complete:
            raise GatewayConnectionError(
                f"{self._peer} closed the connection before its response headers were complete"
            )
        if self.header(b"content-length") or self._is_chunked():
            raise BadResponseError(f"{self._peer} sent a truncated response: {self.progress()}")
        return self._response()

    def cut_refusal(self) -> HTTPResponse | None:
        """The response as far as it came, when its status says that it is an error.

        The status decides what is done about it; the body only adds words.
        """
        return self._response() if self._head_complete and self._status >= 400 else None

    def header(self, wanted: bytes) -> str:
        """The value of the first header of that name, in lower case; empty without one."""
        for name, value in self._headers:
            if name.lower() == wanted:
                return value.decode("latin-1")
        return ""

    def progress(self) -> str:
        """How much of the response has arrived, for messages."""
        if not self.received:
            return "no byte of a response had arrived"
        if not self._head_complete:
            return "its headers were not complete"
        length = self.header(b"content-length")
        total = f" of {length}" if length else ""
        arrived = len(self._body) or self.streamed
        unit = "byte" if arrived == 1 and not total else "bytes"
        return f"{arrived}{total} {unit} of its body had arrived"

    # --- responses that are not quite regular ---

    def _becomes_odd(self, error: HttpParserError, data: bytes) -> bool:
        """Whether what llhttp refuses is, or may become, something that can mean but one thing."""
        has_body = self._body or self.streamed or self._pieces
        is_ours = isinstance(error, HttpParserCallbackError)
        if self._is_odd or has_body or is_ours or not is_head(self._start + data):
            return False
        self._is_odd, self._head_complete = True, False
        try:
            self._read_as_odd(data)
        except HttpParserError as second:
            if not self._complete and not self._undecodable:
                raise self._problem(second, b"") from second
        return True

    def _read_as_odd(self, data: bytes) -> None:
        """Read all that has come once more, as lenient as is safe for whoever reads one response
        and then closes the connection: nothing that follows can be taken for another one.
        """
        if not self._head_complete:
            parts = mended(self._start + data)
            if parts is None:
                return
            self._headers = []
            self._parser = HttpResponseParser(self)
            head, data = parts
            self._parser.feed_data(head)
            self._chunks = RegularChunks() if self._is_chunked() else None
        if self._chunks is not None:
            data = self._chunks.feed(data)
        if data:
            self._parser.feed_data(data)

    # --- called by httptools ---

    def on_message_begin(self) -> None:
        if self._complete:
            # Stops the parser: unlike a pause, which httptools lacks, this leaves it unusable,
            # and so is the connection.
            raise BadResponseError("bytes after the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers arrive here too, after the head; nobody asked for any.
        if not self._head_complete:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._head_complete:
            return
        status = self._status = self._parser.get_status_code()
        if status < 100 or status == 101:
            raise BadResponseError(f"{self._peer} answered with an impossible status, {status}")
        # Counted only when more arrived than the limit, body included, so hardly ever.
        if self.received > MAX_HEAD_BYTES or len(self._headers) > MAX_HEADERS:
            self._check_head()
        if status < 200:
            self._headers = []  # an interim response; the real one follows
        else:
            self._head_complete = True
            if self._stream is not None:
                self._begin_stream(self._stream)

    def on_message_complete(self) -> None:
        if self._head_complete:
            self._complete = True
            self.keep_alive = not self._is_odd and self._parser.should_keep_alive()

    # --- judgement ---

    def _response(self) -> HTTPResponse:
        if self._stream is not None:
            # It was told all that there is.
            self._stream = None
            return HTTPResponse(self._status, _TOLD, b"")
        body = self._body if isinstance(self._body, bytes) else bytes(self._body)
        # The connection may be idle for long from here on.
        self._body = b""
        coding = ""
        for name, value in self._headers:
            # Looking at lengths first keeps this loop, which every response pays for, cheap.
            if len(name) < 16:
                continue
            if len(name) == 16 and name.lower() == b"content-encoding":
                coding = (
                    f"{coding},{value.decode('latin-1')}" if coding else value.decode("latin-1")
                )
            elif len(name) == 17 and name.lower() == b"transfer-encoding":
                self._require_chunked(value)
        headers = Headers(self._headers)
        if coding or self._undecodable:
            return HTTPResponse(self._status, headers, body, coding, self._undecodable)
        return HTTPResponse(self._status, headers, body)

    def _refuse_size(self) -> None:
        if 200 <= self._status <= 299:
            raise too_large_error(f"the response of {self._peer}", self._max_body, self._status)
        # A refusal is one whatever its body.
        self._undecodable = too_large(self._max_body)
        self.keep_alive = False

    def _begin_stream(self, stream: BodySink) -> None:
        for name, codings in self._headers:
            if len(name) == 17 and name.lower() == b"transfer-encoding":
                self._require_chunked(codings)
        stream.head_received(self._status, Headers(self._headers))

    def _require_chunked(self, codings: bytes) -> None:
        if codings.strip().lower() not in (b"chunked", b"identity"):
            shown = codings.decode("latin-1")[:40]
            raise BadResponseError(
                f"{self._peer} answered with a transfer coding nobody asked for: {shown!r}"
            )

    def _check_head(self) -> None:
        if len(self._headers) > MAX_HEADERS:
            raise self._too_many_headers()
        size = sum(len(name) + len(value) + 4 for name, value in self._headers)
        if size > MAX_HEAD_BYTES:
            raise self._too_many_headers()

    def _too_many_headers(self) -> BadResponseError:
        if self._head_complete:
            return BadResponseError(
                f"{self._peer} sent more than {MAX_HEAD_BYTES // 1024} KiB of chunk extensions or"
                " trailers"
            )
        return BadResponseError(
            f"{self._peer} sent response headers of more than"
            f" {MAX_HEAD_BYTES // 1024} KiB or {MAX_HEADERS} fields"
        )

    def _problem(self, error: HttpParserError, data: bytes) -> BaseException:
        raised = error.__context__
        # Raised by one of the methods above, or by a signal while one ran; unless this is about a
        # head that is read once more, as whose context Python puts the parser's first error.
        is_ours = isinstance(error, HttpParserCallbackError)
        if is_ours and raised is not None and not isinstance(raised, HttpParserError):
            return raised
        if self.received == len(data):
            hint = other_protocol(data)
            if hint:
                return BadResponseError(f"{self._peer} {hint}", cause=error)
        return BadResponseError(
            f"{self._peer} sent a malformed HTTP response ({_short(error)})", cause=error
        )

    def _is_chunked(self) -> bool:
        return self.header(b"transfer-encoding").lower().endswith("chunked")


def _short(error: BaseException) -> str:
    return str(error)[:120] or type(error).__name__
