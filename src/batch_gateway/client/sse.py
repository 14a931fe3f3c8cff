"""Server-sent events out of bytes, cut anywhere (WHATWG HTML §9.2.6). Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

__all__ = ["MAX_EVENT_BYTES", "EventTooLargeError", "SSEDecoder", "ServerSentEvent"]

MAX_EVENT_BYTES = 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class EventTooLargeError(Exception):
    """An event, or a line that does not end, is larger than the limit."""


class ServerSentEvent(msgspec.Struct, frozen=True):
    """One event. `data` is UTF-8 as received, its lines joined by a line feed."""

    data: bytes
    event: str = "message"
    id: str = ""

    @property
    def text(self) -> str:
        """The data as text; what is not UTF-8 becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")


class SSEDecoder:
    """Takes in the bytes of one stream and gives back its events.

    Lines may end in CR, LF or CRLF; comments and unknown fields are skipped; an event that the
    end of the stream cuts off is none. Never holds more than `max_event_bytes` of an event's data
    and as much of an unfinished line.

    Attributes:
        retry_ms: the reconnection time that the server asked for, in milliseconds, or None.
    """

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = max_event_bytes
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._data: bytes | bytearray | None = None
        self._event = ""
        self._id = ""
        self.retry_ms: int | None = None

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """The events that `data` completes. Consume them all before the next call.

        Raises EventTooLargeError after the events that came before the one that is too large.
        """
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return
        # A CR ends its line at once; whether a LF belongs to it is only known later.
        self._after_cr = data.endswith(b"\r")
        lines = data.splitlines()
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            event = self._take(self._completed(line))
            if event is not None:
                yield event
        self._keep(rest)

    def _completed(self, end: bytes) -> bytes:
        line = end
        if self._line:
            line = bytes(self._line) + end
            self._line.clear()
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        if len(line) > self._limit:
            raise self._too_large()
        return line

    def _keep(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._limit + len(_BOM):
            raise self._too_large()
        self._line += part

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            self._add_data(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)
        return None

    def _add_data(self, value: bytes) -> None:
        if self._data is None:
            self._data = value  # nearly all events have one line: no copy of it
            return
        if len(self._data) + 1 + len(value) > self._limit:
            raise self._too_large()
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value

    def _dispatch(self) -> ServerSentEvent | None:
        data, self._data = self._data, None
        event, self._event = self._event, ""
        if data is None:
            return None
        return ServerSentEvent(bytes(data), event or "message", self._id)

    def _too_large(self) -> EventTooLargeError:
        return EventTooLargeError(f"an event of the stream is larger than {self._limit} bytes")
