"""Telling a picker of the events of an answer, the moment they come and at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.encode import PIECE_FRAMES, piece_frames
from batch_gateway.wire.http2.grpc_messages import FrameAround
from batch_gateway.wire.transfer_chunks import chunk_head, chunks_in

__all__ = ["HIGH_WATER", "MOST_AWAITED", "Teller", "end_of_message"]

_NEVER = float("inf")
_BLANK_LINE = b"\n\n"
_CRLF = b"\r\n"
_LEFT_TO_OTHERS = list[bytes](), True

# A message there and back that fits into one frame: as large as all servers take them.
_AT_ONCE = 16 * 1024 - 64

# Past this the pod is not read any more, until the reader has taken half of it.
HIGH_WATER = 64 * 1024

# So much of an event stream may be at the picker, which echoes each piece as it comes.
MOST_AWAITED = 1024 * 1024

_ChunkForm = tuple[bytes, int, int, FrameAround]
"""Of a read that is one chunk: its first line, where what is in it begins, how much that is, and
the frame that reports it."""
# By the size of the read: reads of one stream are of few sizes.
_CHUNK_FORMS: dict[int, _ChunkForm] = {}
_MOST_FORMS = 4096


class Teller:
    """Takes what comes of any event stream. What it cannot tell at once is left to `otherwise`.

    Args:
        send: see `GrpcStream.send_around`.
        otherwise: as `take`, for what may not or cannot go out as it is.
        patience, arm, idle_timeout: as for `Relay`.
    """

    __slots__ = ("_arm", "_dialogue", "_echo", "_idle", "_otherwise", "_patience", "_send")

    def __init__(
        self,
        dialogue: Dialogue,
        send: Callable[[FrameAround, bytes], bool],
        otherwise: Callable[[bytes], float],
        *,
        patience: float,
        arm: Callable[[Dialogue, float], None],
        idle_timeout: float,
    ) -> None:
        self._dialogue = dialogue
        self._echo = dialogue.conversation.echo
        self._send = send
        self._patience = patience
        self._arm = arm
        self._idle = idle_timeout
        self._otherwise = otherwise

    def take_chunk(self, data: bytes) -> int:
        """See `EventTaker.take_chunk`."""
        length = len(data)
        line, begin, size, frame = _CHUNK_FORMS.get(length) or _chunk_form(length)
        if not (data.startswith(line) and data.endswith(_CRLF)):
            return self._take_chunks(data)
        # As `tell`, which would be a call for nearly every read that there is.
        echo = self._echo
        if not echo.expects or echo.buffered > HIGH_WATER:
            return 0
        events = data[begin:-2]
        if echo.reported - echo.returned > MOST_AWAITED or not self._send(frame, events):
            return 0
        echo.expected.append(events)
        echo.reported += size
        if self._dialogue.deadline == _NEVER:
            self._arm(self._dialogue, time.monotonic() + self._patience)
        return size

    def _take_chunks(self, data: bytes) -> int:
        parts, is_last = chunks_in(data) or _LEFT_TO_OTHERS
        events, echo = b"".join(parts), self._echo
        begins = echo.reported
        if is_last or not self.tell(events):
            return 0
        if echo.alike is not None:
            echo.cut[begins] = parts
        return len(events)

    def take(self, piece: bytes) -> float:
        """As for `LiveStream.hand_on`."""
        return time.monotonic() + self._idle if self.tell(piece) else self._otherwise(piece)

    def tell(self, data: bytes) -> bool:
        """Report what came of an event stream; False, and nothing done, where it may not go so."""
        echo, size = self._echo, len(data)
        if not (echo.expects and 0 < size <= _AT_ONCE) or echo.buffered > HIGH_WATER:
            return False
        if echo.reported - echo.returned > MOST_AWAITED:
            return False
        frame = (PIECE_FRAMES.get(size) or piece_frames(size))[0]
        if not self._send(frame, data):
            return False
        echo.expected.append(data)
        echo.reported += size
        if self._dialogue.deadline == _NEVER:
            self._arm(self._dialogue, time.monotonic() + self._patience)
        return True


def _chunk_form(length: int) -> _ChunkForm:
    line = chunk_head(length)
    begin = len(line)
    size = length - begin - len(_CRLF)
    if not 0 < size <= _AT_ONCE:
        # Nothing begins with what is longer.
        return bytes(length + 1), 0, 0, piece_frames(1)[0]
    frame = (PIECE_FRAMES.get(size) or piece_frames(size))[0]
    form = line, begin, size, frame
    if len(_CHUNK_FORMS) < _MOST_FORMS:
        _CHUNK_FORMS[length] = form
    return form


def end_of_message(data: bytes) -> int:
    """How much of an event stream goes into one message: whole events, for whoever reads them."""
    if len(data) <= _AT_ONCE:
        return len(data)
    blank = data.rfind(_BLANK_LINE, 0, _AT_ONCE)
    return _AT_ONCE if blank < 0 else blank + len(_BLANK_LINE)
