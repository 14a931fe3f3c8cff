"""One connection to a gateway: writes a request, reads its response, knows if it may live on."""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import Callable
from typing import cast

from batch_gateway.errors import InferenceError, RequestTimeoutError
from batch_gateway.http.body_stream import BodyStream
from batch_gateway.http.connection_errors import broken_error, closed_error
from batch_gateway.http.dial import Dialled
from batch_gateway.http.exchange import HTTPResponse, TakeChunk
from batch_gateway.http.response_reader import ResponseReader
from batch_gateway.http.upload import Body, Upload
from batch_gateway.http.usual_response import usual_response, usual_stream
from batch_gateway.wire.transfer_chunks import whole_chunks

__all__ = ["Connection"]

# Up to here a request is written in one go; copying it next to its head costs less than a
# second write.
_SMALL_BODY = 64 * 1024
_READ_AHEAD_ROUNDS = 10
# A head, and as much as is read behind one without the parser.
_SHORT_READ = 3 * 1024
_NEVER = float("inf")


class Connection(Dialled):
    """The protocol of one socket, plain or TLS. One exchange at a time.

    Attributes:
        reusable: whether the next request may go out on it; False during an exchange.
        kept: it has served a request or been idle, so that the peer may have closed it unseen.
        made: when it was, in monotonic seconds.
        served: how many answers it has brought.
        is_busy: whether an exchange is under way.
        deadline: of that, in monotonic seconds; infinite without one.
    """

    __slots__ = (
        "_greeting",
        "_loop",
        "_lost",
        "_lost_cause",
        "_max_body",
        "_on_lost",
        "_peer",
        "_poll",
        "_reader",
        "_stream",
        "_take_chunk",
        "_transport",
        "_upload",
        "_waiter",
        "deadline",
        "is_busy",
        "kept",
        "made",
        "reusable",
        "served",
    )

    awaited = "the TLS handshake was not over"
    _transport: asyncio.Transport

    def __init__(
        self,
        peer: str,
        max_body: int,
        on_lost: Callable[[Connection], None],
    ) -> None:
        loop = self._loop = asyncio.get_running_loop()
        self._peer = peer
        self._on_lost = on_lost
        self._max_body = max_body
        self._reader = ResponseReader(peer, max_body)
        self._upload: Upload | None = None
        self._stream: BodyStream | None = None
        # Its own, while what comes next is known to begin a chunk.
        self._take_chunk: TakeChunk | None = None
        self._waiter: asyncio.Future[HTTPResponse] | None = None
        self._lost: asyncio.Future[None] = loop.create_future()
        self._lost_cause: Exception | None = None
        self._greeting = b""
        self._poll: Callable[[int], object] = _never_readable
        self.reusable = False
        self.is_busy = False
        self.kept = False
        self.made = 0.0
        self.served = 0
        self.deadline = _NEVER

    # --- one exchange ---

    def post(self, head: bytes, body: Body, deadline: float) -> asyncio.Future[HTTPResponse]:
        """Send a request; the future brings its response or an InferenceError.

        Past `deadline` somebody must call `expire`. Whoever stops waiting must `abort`.
        """
        waiter = self._waiter = self._loop.create_future()
        self.begin(head, body, deadline, None)
        return waiter

    def begin(self, head: bytes, body: Body, deadline: float, stream: BodyStream | None) -> None:
        """The same, where a `stream` gets the body as it comes, and is told of the end at once."""
        self.reusable = False
        self.is_busy = True
        self.deadline = deadline
        self._stream = stream
        # What has read nothing has nothing to forget.
        if self._reader.received or stream is not None:
            self._reader.begin(stream)
        if self._greeting or self._lost.done():
            self._answer_unasked()
        elif len(body) <= _SMALL_BODY:
            self._transport.write(head + body[:])
        else:
            self._upload = Upload(self._transport, body)
            self._upload.start(head)

    def expire(self) -> None:
        """The deadline of the exchange passed: fail it, unless its stream has lived since."""
        later = 0.0 if self._stream is None else self._stream.may_be_silent_until()
        if later > time.monotonic():
            self.deadline = later
            return
        progress = self._reader.progress()
        if self._upload is not None and not self._upload.finished:
            progress = "the request had not been sent completely"
        self.abort(RequestTimeoutError(f"{self._peer} did not answer in time: {progress}"))

    def abort(self, error: InferenceError | None = None) -> None:
        """Drop the connection now, unsent bytes included; an exchange under way gets `error`."""
        self._fail(error or closed_error())
        self._transport.abort()

    def pause_reading(self, pause: bool) -> None:
        """Stop taking bytes from the socket, or go on."""
        if self._transport.is_closing():
            return
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """Take leave of an idle connection in good order."""
        self.reusable = False
        self._transport.close()

    def keep_alive(self) -> str:
        """The `Keep-Alive` header of the last response."""
        return self._reader.header(b"keep-alive")

    def is_alive(self) -> bool:
        """Whether an idle connection is still good, as far as the socket tells.

        Readable means closed by the peer or sent something unasked: unusable either way.
        """
        return self.reusable and not self._poll(0)

    async def opened(self, *, tls: bool) -> None:
        """Let the event loop read what has arrived right behind a TLS handshake.

        A TLS 1.3 server looks at our certificate after our side of the handshake is done, and
        may refuse it and reset the connection. Were the request written first, the write would
        fail, and the alert that says why would never be read.

        Raises TLSError or GatewayConnectionError when the connection is lost already.
        """
        if not tls:
            return
        for _ in range(_READ_AHEAD_ROUNDS):
            if not self._poll(0):
                break
            await asyncio.sleep(0)
        if self._lost.done():
            raise self._broken(self._lost_cause)

    async def wait_lost(self) -> None:
        """Return once the socket is closed."""
        await asyncio.shield(self._lost)

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._lost.done():
            return
        # uvloop's transports are not instances of it, so this cannot be checked.
        self._transport = cast("asyncio.Transport", transport)
        self._poll = _poller(transport)
        self.made = time.monotonic()
        self.reusable = True

    def data_received(self, data: bytes) -> None:
        # The usual case first: this is all that is done for nearly every event of a stream.
        take, stream = self._take_chunk, self._stream
        if take is not None and stream is not None:
            size = take(data)
            if size:
                self._reader.streamed += size
                stream.lived_at = time.monotonic()
                return
        if not self.is_busy:
            # Nobody asked for it. Its exchange may be over, or there never was one.
            self.reusable = False
            if not self.kept:
                self._greeting += data
            self._transport.abort()
            return
        reader = self._reader
        try:
            if stream is not None and reader.is_between_chunks:
                chunks = whole_chunks(data)
                response = reader.feed(data) if chunks is None else reader.take_chunks(*chunks)
            # What a server promises of its connections is read from the first answer of each.
            elif reader.received or not self.served:
                response = reader.feed(data)
            elif stream is not None:
                response = self._begin_streamed(data, stream)
            else:
                usual = usual_response(data, self._max_body)
                if usual is not None:
                    self._succeed(usual, keep_alive=True)
                    return
                response = reader.feed(data)
        except InferenceError as error:
            self.abort(error)
            return
        if response is not None:
            self._succeed(response, keep_alive=reader.keep_alive)
        elif stream is not None:
            self._take_chunk = stream.take_chunk if reader.is_between_chunks else None

    def _begin_streamed(self, data: bytes, stream: BodyStream) -> HTTPResponse | None:
        reader = self._reader
        usual = usual_stream(data) if len(data) <= _SHORT_READ else None
        if usual is None:
            return reader.feed(data)
        headers, rest = usual
        chunks = whole_chunks(rest) if rest else (b"", False)
        if chunks is None:
            return reader.feed(data)
        reader.begin_chunked(data, has_chunks=bool(rest))
        stream.head_received(200, headers)
        return reader.take_chunks(*chunks)

    def eof_received(self) -> None:
        # Acted upon here because a transport with unsent bytes would first try to send them.
        if not self.is_busy:
            self.reusable = False
        else:
            self._end(None)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost_cause = exc
        if self.is_busy:
            self._end(exc)
        self.reusable = False
        if not self._greeting:
            self._reader.close()
        self._poll = _never_readable
        self._lost.set_result(None)
        self._on_lost(self)

    def pause_writing(self) -> None:
        if self._upload is not None:
            self._upload.pause()

    def resume_writing(self) -> None:
        if self._upload is not None:
            self._upload.resume()

    # --- how an exchange ends ---

    def _answer_unasked(self) -> None:
        """The connection was over before the first request on it: say what the peer had said.

        A server that has too many connections answers at once and closes; one that speaks
        another protocol greets.
        """
        if self._greeting:
            self.data_received(self._greeting)
        if self.is_busy:
            self._fail(self._broken(self._lost_cause))
        self.reusable = False

    def _end(self, cause: Exception | None) -> None:
        """The connection ended under an exchange, which may be how its response ends."""
        try:
            response = self._last_response(cause)
        except InferenceError as error:
            self._fail(error)
        else:
            self._succeed(response, keep_alive=self._reader.keep_alive)

    def _last_response(self, cause: Exception | None) -> HTTPResponse:
        reader = self._reader
        unread = b"" if self._upload is None else self._upload.unread()
        response = reader.feed(unread) if unread else None
        if response is None and reader.received:
            # A refusal is one even where a reset cut its words short: whoever refuses a request
            # that it has not read to its end resets the connection.
            response = reader.cut_refusal()
            if response is None and cause is None:
                response = reader.finish()
        if response is None:
            raise self._broken(cause)
        return response

    def _succeed(self, response: HTTPResponse, *, keep_alive: bool) -> None:
        upload = self._upload
        # An answer to a request that is still being sent leaves the rest of it in the way. So may a
        # refusal of one that only the kernel has taken: squid never reads behind it again.
        sent = upload is None or (upload.finished and response.status_code < 400)
        self.served += 1
        self.reusable = keep_alive and sent and not self._transport.is_closing()
        stream, waiter = self._stream, self._settle()
        if waiter is not None and not waiter.done():
            waiter.set_result(response)
        if stream is not None:
            stream.ended(None)

    def _fail(self, error: InferenceError) -> None:
        self.reusable = False
        was_busy, stream, waiter = self.is_busy, self._stream, self._settle()
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
            # Marks it as seen: a task that is cancelled in this very moment will not look.
            waiter.exception()
        if was_busy and stream is not None:
            stream.ended(error)

    def _settle(self) -> asyncio.Future[HTTPResponse] | None:
        waiter, self._waiter = self._waiter, None
        self.is_busy = False
        if self._upload is not None:
            self._upload.close()
            self._upload = None
        self._stream = self._take_chunk = None
        self.deadline = _NEVER
        return waiter

    def _broken(self, cause: Exception | None) -> InferenceError:
        reader = self._reader
        return broken_error(
            cause,
            self._peer,
            reused=self.served > 0,
            received=reader.received,
            progress=reader.progress(),
        )


def _never_readable(_timeout: int) -> object:
    return ()


def _poller(transport: asyncio.BaseTransport) -> Callable[[int], object]:
    """A function that says, in about a microsecond, whether the socket has something to read."""
    handle: int = transport.get_extra_info("socket").fileno()
    if not hasattr(select, "poll"):  # Windows
        return lambda _timeout: select.select([handle], [], [], 0)[0]
    poll = select.poll()
    # Errors and hang-ups are reported whatever one registers for.
    poll.register(handle, select.POLLIN)
    return poll.poll
