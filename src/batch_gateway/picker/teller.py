"""Telling a picker of the events of an answer, the moment they come and at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.encode import PIECE_FRAMES, piece_frames
from batch_gateway.wire.http2.grpc_messages import FrameAround
from batch_gateway.wire.transfer_chunks import whole_chunks

__all__ = ["HIGH_WATER", "MOST_AWAITED", "Teller", "end_of_message"]

_NEVER = float("inf")
_BLANK_LINE = b"\n\n"
_LEFT_TO_OTHERS = b"", True

# A message there and back that fits into one frame: as large as all servers take them.
_AT_ONCE = 16 * 1024 - 64

# Past this the pod is not read any more, until the reader has taken half of it.
HIGH_WATER = 64 * 1024

# So much of an event stream may be at the picker, which echoes each piece as it comes.
MOST_AWAITED = 1024 * 1024


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
        events, is_last = whole_chunks(data) or _LEFT_TO_OTHERS
        return len(events) if not is_last and self.tell(events) else 0

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


def end_of_message(data: bytes) -> int:
    """How much of an event stream goes into one message: whole events, for whoever reads them."""
    if len(data) <= _AT_ONCE:
        return len(data)
    blank = data.rfind(_BLANK_LINE, 0, _AT_ONCE)
    return _AT_ONCE if blank < 0 else blank + len(_BLANK_LINE)
