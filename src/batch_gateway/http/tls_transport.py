"""TLS between a connection and its socket: what is written is encrypted, what is read decrypted.

The event loops have such a layer too. Theirs keeps a buffer of 256 KiB for each connection and
asks OpenSSL's objects some ten things for a read, of which two are needed. Through a proxy's
tunnel it is theirs that is used.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

__all__ = ["TLSTransport"]

# No record has more in it (RFC 8446 §5.1), and no read of OpenSSL brings more than one.
_RECORD = 16 * 1024

# What a record begins with that has data in it (RFC 8446 §5.2), and behind it, in two bytes, how
# long it is. What comes amid another record looks like that in its five bytes by chance alone.
_HAS_DATA = b"\x17\x03\x03"
_RECORD_HEAD = len(_HAS_DATA) + 2

# In the place of a protocol that has been told of the loss of its connection: the two would hold
# one another until the garbage collector comes by, and so would an error and who keeps it.
_NOBODY = asyncio.Protocol()


class TLSTransport(asyncio.Transport, asyncio.Protocol):
    """The transport of a connection's protocol, and itself the protocol of the socket's transport.

    The protocol is told of a connection once the handshake is over, and of its loss only then.

    Args:
        protocol: of the connection.
        host: what the server's certificate must name.
        farewell: seconds that the peer may take to return the goodbye of `close`.
    """

    __slots__ = (
        "_backlog",
        "_context",
        "_decrypted",
        "_encrypt",
        "_failure",
        "_farewell",
        "_goodbye",
        "_host",
        "_incoming",
        "_is_made",
        "_is_open",
        "_is_quick",
        "_is_shaking",
        "_loop",
        "_outgoing",
        "_protocol",
        "_raw",
        "_shaken",
        "_take_in",
        "_tls",
    )
    _raw: asyncio.Transport
    _tls: ssl.SSLObject

    def __init__(
        self, protocol: asyncio.Protocol, context: ssl.SSLContext, host: str, farewell: float
    ) -> None:
        super().__init__()
        loop = self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._context = context
        self._host = host
        self._farewell = farewell
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._take_in = self._incoming.write
        self._shaken: asyncio.Future[None] | None = loop.create_future()
        self._is_shaking = True
        # Whether the protocol knows of it, and whether it may write: until either side takes leave.
        self._is_made = self._is_open = False
        # Whether what comes is to be decrypted, and nothing else.
        self._is_quick = False
        # What waits for an answer of the peer: TLS 1.2 may shake hands once more at any time.
        self._backlog: list[Any] = []
        self._failure: Exception | None = None
        self._goodbye: asyncio.TimerHandle | None = None

    async def handshake(self) -> None:
        """Wait until it is over. Raises OSError when it failed, and what the context raises."""
        assert self._shaken is not None  # noqa: S101 - waited for once
        try:
            await self._shaken
        except asyncio.CancelledError:
            self._is_shaking = False
            self._raw.abort()
            raise
        finally:
            self._shaken = None

    # --- called by the protocol ---

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._is_open or not data:
            return
        if self._backlog:
            self._backlog.append(data)
            return
        try:
            self._encrypt(data)
        except ssl.SSLWantReadError:
            self._backlog.append(data)
            self._is_quick = False
        except OSError as error:
            self._failure = error
            self.abort()
            return
        self._raw.write(self._outgoing.read())

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = self._is_quick = False
        self._goodbye = self._loop.call_later(self._farewell, self._raw.abort)
        self._take_leave()

    def abort(self) -> None:
        self._is_open = self._is_quick = False
        self._raw.abort()

    def is_closing(self) -> bool:
        return not self._is_open or self._raw.is_closing()

    def pause_reading(self) -> None:
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return self._tls
        return self._context if name == "sslcontext" else self._raw.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._backlog)) + self._raw.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of it, so this cannot be checked.
        self._raw = transport  # pyright: ignore[reportAttributeAccessIssue]
        try:
            tls = self._context.wrap_bio(self._incoming, self._outgoing, server_hostname=self._host)
        except (ValueError, OSError) as error:
            self._fail(error)
            return
        self._tls, self._decrypted, self._encrypt = tls, tls.read, tls.write
        self._shake_hands()

    def data_received(self, data: bytes) -> None:
        self._take_in(data)
        if not self._is_quick:
            self._receive_otherwise()
            return
        # Nearly always one whole record, which says less than it takes: where there is no room for
        # more, none is made and given back. Behind its data OpenSSL has nothing to answer.
        size = len(data)
        is_one = (
            data.startswith(_HAS_DATA) and int.from_bytes(data[3:5], "big") == size - _RECORD_HEAD
        )
        try:
            said = self._decrypted(size if is_one else _RECORD)
        except OSError as error:
            self._go_on(has_left=self._has_left(error))
            return
        if is_one and said:
            self._protocol.data_received(said)
        else:
            self._hand_on([said])

    def eof_received(self) -> None:
        # Without a goodbye: whether what has come is whole is for the protocol to say.
        self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open = self._is_quick = False
        if self._goodbye is not None:
            self._goodbye.cancel()
        failure, self._failure = self._failure or exc, None
        protocol, self._protocol = self._protocol, _NOBODY
        if self._is_shaking:
            self._fail(failure or ConnectionResetError("closed during the TLS handshake"))
        elif self._is_made:
            protocol.connection_lost(failure)

    def pause_writing(self) -> None:
        if self._is_made:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._is_made:
            self._protocol.resume_writing()

    # --- TLS ---

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except Exception as error:  # noqa: BLE001 - the context has errors of its own
            # With what says to the peer why; but what would end a handshake that only we refuse
            # has our certificate in it.
            if self._tls.version() is None:
                self._flush()
            self._fail(error)
            return
        self._flush()
        self._is_made = self._is_open = self._is_quick = True
        self._settle(None)
        self._protocol.connection_made(self)
        self._hand_on([])

    def _receive_otherwise(self) -> None:
        if self._is_open:
            self._hand_on([])
            self._go_on_writing()
        elif self._is_shaking:
            self._shake_hands()
        elif not self._raw.is_closing():
            self._take_leave()

    def _hand_on(self, said: list[bytes]) -> None:
        """Give the protocol what the records say that have come, the first of which is read."""
        has_left = False
        try:
            while self._incoming.pending and (not said or said[-1]):
                said.append(self._decrypted(_RECORD))
        except OSError as error:
            has_left = self._has_left(error)
        data = b"".join(said)
        if data:
            self._protocol.data_received(data)
        self._go_on(has_left=has_left or (bool(said) and not said[-1]))

    def _has_left(self, error: OSError) -> bool:
        """Whether it is with a goodbye that there is no more to read; a failure is kept."""
        if not isinstance(error, ssl.SSLWantReadError | ssl.SSLZeroReturnError):
            self._failure = error
        return isinstance(error, ssl.SSLZeroReturnError)

    def _go_on(self, *, has_left: bool) -> None:
        if self._failure is not None:
            self.abort()
        elif has_left:
            self._protocol.eof_received()
            self.close()
        else:
            self._flush()

    def _go_on_writing(self) -> None:
        waiting, self._backlog = self._backlog, []
        self._is_quick = self._is_open
        self._flush()
        for data in waiting:
            self.write(data)

    def _take_leave(self) -> None:
        """Say goodbye, and hang up once the peer has, too."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self._flush()
        except OSError:
            # It still has something to say, which nobody wants to hear.
            self._raw.abort()
        else:
            self._flush()
            self._raw.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _fail(self, error: Exception) -> None:
        """The handshake failed."""
        self._settle(error)
        self._raw.close()

    def _settle(self, error: Exception | None) -> None:
        """The handshake is over."""
        self._is_shaking = False
        if self._shaken is None or self._shaken.done():
            return
        if error is None:
            self._shaken.set_result(None)
        else:
            self._shaken.set_exception(error)
            # Marks it as seen: a dial that is cancelled in this very moment will not look.
            self._shaken.exception()
