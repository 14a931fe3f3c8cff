"""Telling a picker of the events of an answer, the moment they come and at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.encode import PIECE_FRAMES, piece_frames
from batch_gateway.wire.http2.grpc_messages import FrameAround
from batch_gateway.wire.transfer_chunks import CHUNK_HEADS, chunk_head

__all__ = ["AT_ONCE", "MOST_AWAITED", "Teller"]

_NEVER = float("inf")
_CRLF = b"\r\n"

# A message there and back that fits into one frame: as large as all servers take them.
AT_ONCE = 16 * 1024 - 64

# So much of an event stream may be at the picker, which echoes each piece as it comes.
MOST_AWAITED = 1024 * 1024


class Teller:
    """An `EventTaker` for any event. What it does not take is left to the dialogue.

    Args:
        send: see `GrpcStream.send_around`.
        patience, arm: as for `Relay`.
    """

    __slots__ = ("_arm", "_dialogue", "_echo", "_patience", "_send")

    def __init__(
        self,
        dialogue: Dialogue,
        send: Callable[[FrameAround, bytes], bool],
        patience: float,
        arm: Callable[[Dialogue, float], None],
    ) -> None:
        self._dialogue = dialogue
        self._echo = dialogue.conversation.echo
        self._send = send
        self._patience = patience
        self._arm = arm

    def take_chunk(self, data: bytes) -> int:
        """See `EventTaker.take_chunk`."""
        size = len(data)
        head = CHUNK_HEADS.get(size) or chunk_head(size)
        if not (data.startswith(head) and data.endswith(_CRLF)):
            return 0
        event = data[len(head) : -len(_CRLF)]
        return len(event) if self.take_event(event) else 0

    def take_event(self, data: bytes) -> bool:
        """See `EventTaker.take_event`."""
        echo, size = self._echo, len(data)
        if not echo.expects or echo.buffered or echo.reported - echo.returned > MOST_AWAITED:
            return False
        frame = (PIECE_FRAMES.get(size) or piece_frames(size))[0]
        if not 0 < size <= AT_ONCE or not self._send(frame, data):
            return False
        echo.expected.append(data)
        echo.reported += size
        if self._dialogue.deadline == _NEVER:
            self._arm(self._dialogue, time.monotonic() + self._patience)
        return True
