"""Which pieces of a streamed answer are reported at once, and which with those behind them. Pure.

A message to the picker and back costs as much as reading several events, so a stream makes at most
so many a second: nobody sees that the events of a fast one come by frames. Those of a slow one, and
the first of every answer, are reported as they come.
"""

from __future__ import annotations

__all__ = ["Gathering"]

# The first pieces of an answer, which say that it begins and have its first token, are not held up,
# nor are those of a slow one that come two at a time.
_BURST = 4

_LONG_PAST = float("-inf")


class Gathering:
    """What has come of one answer and is not reported, and when that is due.

    How often something is reported is limited by the generic cell rate algorithm (ITU-T I.371):
    one number, the time at which all that was reported would have been, had it come evenly.

    Args:
        interval: seconds between two reports of a stream that goes on; 0 to gather nothing.
        most: bytes that are reported together.

    Attributes:
        pieces: what is gathered, in its order. Where there are some, and with this no more than
            `most`, whoever is in a hurry may add a piece, and its size to `size`, himself.
        size: the bytes of all of them.
    """

    __slots__ = ("_ahead", "_evenly_at", "_interval", "_most", "pieces", "size")

    def __init__(self, interval: float, most: int) -> None:
        self._interval = interval
        self._ahead = (_BURST - 1) * interval
        self._most = most
        self._evenly_at = _LONG_PAST
        self.pieces: list[bytes] = []
        self.size = 0

    def comes(self, piece: bytes, now: float) -> list[bytes]:
        """What is to be reported now that a piece has come, one after the other."""
        size, ready = len(piece), list[bytes]()
        if self.pieces and self.size + size > self._most:
            ready.append(self.due(now))
        if not self.pieces and (size > self._most or self.lets_pass(now)):
            ready.append(piece)
        else:
            self.pieces.append(piece)
            self.size += size
        return ready

    def lets_pass(self, now: float) -> bool:
        """Whether a piece is to be reported at once, where nothing is gathered; then it must be."""
        evenly_at = self._evenly_at
        if evenly_at > now + self._ahead:
            return False
        self._evenly_at = max(evenly_at, now) + self._interval
        return True

    def due(self, now: float) -> bytes:
        """All that is gathered, which is reported now, however soon that is."""
        evenly_at = max(self._evenly_at, now) + self._interval
        # What a stream was too fast is made up for by the pause behind each of its reports.
        self._evenly_at = min(evenly_at, now + self._ahead + self._interval)
        return self.take()

    def take(self) -> bytes:
        """All that is gathered, for whoever reports it with something else."""
        pieces, self.size = self.pieces, 0
        if len(pieces) == 1:
            return pieces.pop()
        gathered = b"".join(pieces)
        pieces.clear()
        return gathered
