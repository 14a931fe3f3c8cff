"""Server-sent events out of bytes, cut anywhere (WHATWG HTML §9.2.6). Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

__all__ = [
    "MAX_EVENT_BYTES",
    "EventTooLargeError",
    "IdleStreamError",
    "SSEDecoder",
    "ServerSentEvent",
]

MAX_EVENT_BYTES = 1024 * 1024

_BOM = b"\xef\xbb\xbf"
_BEGINNINGS = (b"{", b"[DONE]")
_NO_LIMIT = 2**62


class EventTooLargeError(Exception):
    """An event, or a line that does not end, is larger than the limit."""


class IdleStreamError(Exception):
    """Too many bytes came that are not data of an event."""


class ServerSentEvent(msgspec.Struct, frozen=True, gc=False):
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
    end of the stream cuts off is none, but see `end`. Never holds more than `max_event_bytes` of
    an event's data and as much of an unfinished line.

    Beyond the standard, a field called `error` (llama.cpp until 2025) is the data of an event of
    that name, and a line that begins an object is an event by itself: proxies write their errors
    so into a stream that is not theirs. Data that begins an object, or is `[DONE]`, behind data
    that ends one is an event of its own, too: no JSON goes on so, and some servers end an event
    with a single line feed.

    Args:
        max_idle_bytes: how much may come that is no data, as comments and empty lines are,
            before `idle_bytes` is set back.

    Attributes:
        idle_bytes: how much of that has come.
        retry_ms: the reconnection time that the server asked for, in milliseconds, or None.
    """

    def __init__(
        self, max_event_bytes: int = MAX_EVENT_BYTES, max_idle_bytes: int = _NO_LIMIT
    ) -> None:
        self._limit = max_event_bytes
        self._most_idle = max_idle_bytes
        self._line = bytearray()
        self._after_cr = False
        self._at_start = True
        self._data: bytes | bytearray | None = None
        self._event = ""
        self._event_line = b"event: message"
        self._event_name = "message"
        self._id = ""
        self.idle_bytes = 0
        self.retry_ms: int | None = None

    def feed(self, data: bytes) -> Iterator[ServerSentEvent]:
        """The events that `data` completes. Consume them all before the next call.

        Raises EventTooLargeError after the events that came before the one that is too large,
        and IdleStreamError.
        """
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return
        # A CR ends its line at once; whether a LF belongs to it is only known later.
        self._after_cr = data.endswith(b"\r")
        if data[0] in b"\r\n":
            data = self._after_empty_lines(data)
            if not data:
                return
        lines = data.splitlines()
        rest = b"" if data.endswith((b"\n", b"\r")) else lines.pop()
        for line in lines:
            event = self._take(line)
            if event is not None:
                yield event
        if rest:
            self._keep(rest)
        self.idle(0)

    @property
    def is_between_events(self) -> bool:
        """Whether an event that comes next is not joined to anything before it."""
        return not (self._line or self._event or self._after_cr) and self._data is None

    def end(self) -> Iterator[ServerSentEvent]:
        """The events that the end of the stream cut off, or ended with: an empty line is missing.

        Nothing is fed after that. Raises as `feed`.
        """
        event = self._take(b"") if self._line else None
        if event is not None:
            yield event
        event = self._dispatch()
        if event is not None:
            yield event

    def idle(self, count: int) -> None:
        """So many bytes more were none of an answer. Raises IdleStreamError past the limit."""
        self.idle_bytes += count
        if self.idle_bytes > self._most_idle:
            raise IdleStreamError(f"more than {self._most_idle} bytes came that say nothing")

    def _after_empty_lines(self, data: bytes) -> bytes:
        """Empty lines between events go at once: there may be millions of them."""
        if self._line or self._data is not None:
            return data
        rest = data.lstrip(b"\r\n")
        empty = data[: len(data) - len(rest)]
        self._at_start = False
        self._event = ""
        self.idle(empty.count(b"\n") + empty.count(b"\r") - empty.count(b"\r\n"))
        return rest

    def _completed(self, end: bytes) -> bytes:
        line = end
        if self._line:
            self._line += end
            line = bytes(self._line)
            self._line.clear()
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BOM)
        return line

    def _keep(self, part: bytes) -> None:
        if len(self._line) + len(part) > self._limit + len(_BOM):
            raise self._too_large()
        self._line += part

    def _take(self, line: bytes) -> ServerSentEvent | None:
        if self._line or self._at_start:
            line = self._completed(line)
        if len(line) > self._limit:
            raise self._too_large()
        if not line:
            return self._dispatch()
        if self._data is None and line.startswith(b"data: "):
            self._data = line[6:]  # nearly all events have one such line
            return None
        if line == self._event_line:
            self._event = self._event_name  # many servers repeat it before each event
            self.idle_bytes += len(line)
            return None
        return self._take_field(line)

    def _take_field(self, line: bytes) -> ServerSentEvent | None:
        name, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if name == b"data":
            return self._add_data(value)
        if line.startswith(b"{"):
            self.idle(0)
            return ServerSentEvent(line, self._event or "message", self._id)
        if name == b"event":
            self._event_line = line
            self._event = self._event_name = value.decode("utf-8", "replace")
        elif name == b"error":
            before = self._add_data(value)
            self._event = "error"
            return before
        elif name == b"id" and b"\0" not in value:
            self._id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)
        self.idle_bytes += len(line) + 1
        return None

    def _add_data(self, value: bytes) -> ServerSentEvent | None:
        """The event before this data, when that was whole."""
        if self._data is None:
            self._data = value  # nearly all events have one line: no copy of it
            return None
        if self._data.endswith(b"}") and value.startswith(_BEGINNINGS):
            name = self._event
            before = self._dispatch()
            self._event, self._data = name, value
            return before
        if len(self._data) + 1 + len(value) > self._limit:
            raise self._too_large()
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        self._data += b"\n"
        self._data += value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, self._data = self._data, None
        event, self._event = self._event, ""
        if data is None:
            self.idle_bytes += 1
            return None
        self.idle(0)
        return ServerSentEvent(bytes(data), event or "message", self._id)

    def _too_large(self) -> EventTooLargeError:
        return EventTooLargeError(f"an event of the stream is larger than {self._limit} bytes")
