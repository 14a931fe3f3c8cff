"""Telling a picker of the events of an answer, soon and at little cost."""

from __future__ import annotations

import time
from collections.abc import Callable

from batch_gateway.picker.dialogue import Dialogue
from batch_gateway.picker.encode import PIECE_FRAMES, piece_frames
from batch_gateway.picker.gather_timer import GatherTimer
from batch_gateway.picker.gathering import Gathering
from batch_gateway.wire.http2.grpc_messages import FrameAround
from batch_gateway.wire.transfer_chunks import CHUNK_HEADS, chunk_head

__all__ = ["MOST_AWAITED", "Teller"]

_NEVER = float("inf")
_CRLF = b"\r\n"
_BLANK_LINE = b"\n\n"

# A message there and back that fits into one frame: as large as all servers take them.
_AT_ONCE = 16 * 1024 - 64

# So much of an event stream may be at the picker, which echoes each piece as it comes.
MOST_AWAITED = 1024 * 1024


class Teller:
    """An `EventTaker` for any event. What it does not take goes through `tell`.

    Args:
        send: see `GrpcStream.send_around`.
        timer: reports what is gathered in time.
        patience, arm: as for `Relay`.

    Attributes:
        gathering: what has come and is not reported.
        is_held_up: whether a message waits because the picker takes no more. The next is to be
            waited for by whoever says it, and nothing is gathered.
    """

    __slots__ = (
        "_arm",
        "_dialogue",
        "_echo",
        "_patience",
        "_send",
        "_timer",
        "gathering",
        "is_held_up",
    )

    def __init__(
        self,
        dialogue: Dialogue,
        send: Callable[[FrameAround, bytes], bool],
        timer: GatherTimer,
        patience: float,
        arm: Callable[[Dialogue, float], None],
    ) -> None:
        self._dialogue = dialogue
        self._echo = dialogue.conversation.echo
        self._send = send
        self._timer = timer
        self.gathering = Gathering(timer.interval, _AT_ONCE)
        self._patience = patience
        self._arm = arm
        self.is_held_up = False

    def take_chunk(self, data: bytes) -> int:
        """See `EventTaker.take_chunk`."""
        length = len(data)
        head = CHUNK_HEADS.get(length) or chunk_head(length)
        if not (data.startswith(head) and data.endswith(_CRLF)):
            return 0
        event = data[len(head) : -len(_CRLF)]
        gathering, size = self.gathering, len(event)
        if gathering.pieces and gathering.size + size <= _AT_ONCE:
            # As most events of a fast stream: nothing is to be decided about it.
            gathering.pieces.append(event)
            gathering.size += size
            return size
        return size if self.take_event(event) else 0

    def take_event(self, data: bytes) -> bool:
        """See `EventTaker.take_event`."""
        echo, size = self._echo, len(data)
        if echo.buffered or echo.reported - echo.returned > MOST_AWAITED:
            return False
        now, gathering = time.monotonic(), self.gathering
        if gathering.pieces or not (echo.expects and gathering.lets_pass(now)):
            # Without a picker a piece is handed on by whoever has it, as nothing else would.
            return not self._dialogue.conversation.over and self.tell(data, now)
        # As most events of a slow stream; the rest does the same in more steps.
        frame = (PIECE_FRAMES.get(size) or piece_frames(size))[0]
        if not 0 < size <= _AT_ONCE or not self._send(frame, data):
            return self.tell(data, now)
        echo.expected.append(data)
        echo.reported += size
        if self._dialogue.deadline == _NEVER:
            self._arm(self._dialogue, now + self._patience)
        return True

    def tell(self, piece: bytes, now: float) -> bool:
        """Report a piece, or gather it; whether that was possible."""
        if self.is_held_up:
            return False
        if self._dialogue.conversation.over:
            self._say(piece, now)
            return True
        gathering = self.gathering
        for ready in gathering.comes(piece, now):
            self._say(ready, now)
        if gathering.pieces:
            self._timer.add(self.report)
        return True

    def report(self, now: float) -> None:
        """Report what is gathered: now, or as soon as it may go out."""
        if self.gathering.pieces:
            self._say(self.gathering.due(now), now)

    def rest(self) -> bytes:
        """What is gathered, for whoever waits until that has gone out, and what was held up."""
        self.is_held_up = False
        return self.gathering.take()

    def close(self) -> None:
        """Report nothing any more."""
        self._timer.discard(self.report)

    def _say(self, rest: bytes, now: float) -> None:
        dialogue = self._dialogue
        while rest:
            end = len(rest) if len(rest) <= _AT_ONCE else _end_of_message(rest)
            piece, rest = rest[:end], rest[end:]
            if not (self._say_quickly(piece) or dialogue.say_body_nowait(piece)):
                self.is_held_up = True
                dialogue.say_body_later(piece + rest)
                break
        if dialogue.deadline == _NEVER and not dialogue.conversation.over:
            self._arm(dialogue, now + self._patience)

    def _say_quickly(self, piece: bytes) -> bool:
        echo, size = self._echo, len(piece)
        if not echo.expects:
            return False
        if not self._send((PIECE_FRAMES.get(size) or piece_frames(size))[0], piece):
            return False
        echo.expected.append(piece)
        echo.reported += size
        return True


def _end_of_message(data: bytes) -> int:
    """How much of an event stream goes into one message: whole events, for whoever reads them."""
    blank = data.rfind(_BLANK_LINE, 0, _AT_ONCE)
    return _AT_ONCE if blank < 0 else blank + len(_BLANK_LINE)
