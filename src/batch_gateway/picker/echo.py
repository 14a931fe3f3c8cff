"""What becomes of a response body that is reported to an endpoint picker and comes back.

In ext_proc's full-duplex mode what the picker sends back is the body: it may rewrite it, cut it
otherwise, or keep it until all of it is there. A picker that stops in the middle is no reason to
lose an answer, as long as what it gave back so far is what the pod said.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from batch_gateway.picker.encode import HANDED_BACK_ENDS, PIECE_FRAMES, piece_frames

__all__ = ["Echo"]


class Echo:
    """The bytes that are reported, and those that may be handed on. No I/O and no clock.

    Attributes:
        ended: everything that there will be has been put out.
        buffered: how many bytes are put out and not taken.
        expects: whether what is reported is expected to come back as it is. Whoever reports while
            it does may do so by adding to the next two: `report` would take as long as the rest.
        expected: reported and not come back yet, by message.
        reported, returned: how many bytes of such there were, and how many have come back.
        hand: is given what comes back as it was, and b"" behind the last; without it that is put
            out.
    """

    __slots__ = (
        "_answered",
        "_given_up",
        "_out",
        "_rewritten",
        "_struck",
        "_whole",
        "buffered",
        "ended",
        "expected",
        "expects",
        "hand",
        "reported",
        "returned",
    )

    def __init__(self) -> None:
        # Nothing any more once it is rewritten.
        self.expected: deque[bytes] = deque()
        # How much of the first of them has come back.
        self._struck = 0
        self._out: deque[bytes] = deque()
        self._whole = False
        self._rewritten = False
        self._given_up = False
        self._answered = False
        self.reported = 0
        self.returned = 0
        self.buffered = 0
        self.ended = False
        self.expects = True
        self.hand: Callable[[bytes], None] | None = None

    @property
    def answered(self) -> bool:
        """Whether the picker has said something about the body."""
        return self._answered or self.returned > 0

    @property
    def awaited(self) -> int:
        """How many bytes are kept because they have not come back."""
        return self.reported - self.returned

    @property
    def waits(self) -> bool:
        """Whether something was reported that has not come back."""
        return not self.ended and (bool(self.expected) or self._whole)

    @property
    def reported_all(self) -> bool:
        """Whether the whole answer has been reported."""
        return self._whole

    @property
    def rewritten(self) -> bool:
        """Whether what came back is not what was reported, at least in part."""
        return self._rewritten

    def report(self, piece: bytes, *, last: bool) -> None:
        """A message with `piece` is sent to the picker; or would be, had it not been given up."""
        self._whole = last
        if self._given_up:
            self.put(piece)
            self.ended = last
        elif not self._rewritten:
            self.expected.append(piece)
            self.reported += len(piece)

    def came_back(self, data: bytes, start: int, end: int) -> int:
        """Where those messages in `data` end that hand back pieces as they were; see
        `GrpcStream.offer`. What is behind them is to be read.

        Nearly all that is said about an event stream is just that.
        """
        expected = self.expected
        while start < end and expected and not self._struck and self.expects:
            piece = expected[0]
            size = len(piece)
            if not size:
                return self._end_came_back(data, start, end)
            head = (PIECE_FRAMES.get(size) or piece_frames(size))[1]
            begins = start + len(head)
            stop = begins + size
            if stop > end or not data.startswith(head, start):
                break
            if not data.startswith(piece, begins):
                break
            expected.popleft()
            self.returned += size
            (self.hand or self.put)(piece)
            start = stop
        return start

    def _end_came_back(self, data: bytes, start: int, end: int) -> int:
        for message in HANDED_BACK_ENDS:
            if self._whole and data.startswith(message, start, end):
                self.streamed(b"", last=True)
                (self.hand or self.put)(b"")
                return start + len(message)
        return start

    def unchanged(self) -> None:
        """The picker answers a message with nothing: its piece stays as it is."""
        self._answered = True
        if self.expected and not self.ended:
            self.put(self._struck_off())
            self._end_if_all()

    def replaced(self, piece: bytes) -> None:
        """The picker answers a message with another piece."""
        self._answered = True
        if self.ended:
            return
        self.put(piece)
        if self.expected:
            self._struck_off()
            self._end_if_all()

    def streamed(self, piece: bytes, *, last: bool) -> None:
        """The picker sends a piece of its own cut."""
        self._answered = True
        if self.ended or self._given_up:
            return
        self.put(piece)
        if len(self.expected) == 1 and not self._struck and piece == self.expected[0]:
            # As most answers that are reported in one message.
            self.expected.clear()
            self.returned += len(piece)
        elif not self._rewritten:
            self._match(piece)
        if last:
            self.ended, self.expects = True, False

    def give_up(self) -> bool:
        """No more is expected of the picker; the pod's own bytes go on from here.

        False when that cannot be, because what came back so far was rewritten.
        """
        if self.ended or self._given_up:
            return True
        if self._rewritten:
            return False
        self._given_up, self.expects = True, False
        while self.expected:
            self.put(self._struck_off())
        self.ended = self._whole
        return True

    def put(self, piece: bytes) -> None:
        """Put out a piece, to be handed on."""
        if piece:
            self._out.append(piece)
            self.buffered += len(piece)

    @property
    def next_size(self) -> int:
        """How many bytes `take` would give."""
        return len(self._out[0]) if self._out else 0

    def take(self) -> bytes:
        """The next bytes to hand on; b"" when there are none just now."""
        if not self._out:
            return b""
        piece = self._out.popleft()
        self.buffered -= len(piece)
        return piece

    def take_all(self) -> bytes:
        """Everything that there is to hand on, in one."""
        self.buffered = 0
        if len(self._out) == 1:
            return self._out.popleft()
        whole = b"".join(self._out)
        self._out.clear()
        return whole

    def _end_if_all(self) -> None:
        self.ended = self._whole and not self.expected

    def _struck_off(self) -> bytes:
        """What has not come back of the first message."""
        piece = self.expected.popleft()[self._struck :]
        self._struck = 0
        self.reported -= len(piece)
        return piece

    def _match(self, piece: bytes) -> None:
        """Strike off what came back; or find that it is something else."""
        start = 0
        while start < len(piece) and self.expected:
            # However either side is cut, every byte is looked at once.
            reported, returned = self.expected[0], self._struck
            size = min(len(reported) - returned, len(piece) - start)
            if piece[start : start + size] != reported[returned : returned + size]:
                break
            start += size
            self.returned += size
            self._struck += size
            if self._struck == len(reported):
                self.expected.popleft()
                self._struck = 0
        if start < len(piece):
            # The rest cannot be compared, nor be used in its place.
            self._rewritten = True
            self.expected.clear()
            self._struck = 0
            self.reported = self.returned
            self.expects = False
