"""What becomes of a response body that is reported to an endpoint picker and comes back.

In ext_proc's full-duplex mode what the picker sends back is the body: it may rewrite it, cut it
otherwise, or keep it until all of it is there. A picker that stops in the middle is no reason to
lose an answer, as long as what it gave back so far is what the pod said.
"""

from __future__ import annotations

from collections import deque

from batch_gateway.picker.encode import handed_back

__all__ = ["Echo"]


class Echo:
    """The bytes that are reported, and those that may be handed on. No I/O and no clock.

    Attributes:
        ended: everything that there will be has been put out.
        answered: the picker has said something about the body.
        buffered: how many bytes are put out and not taken.
        awaited: how many are kept because they have not come back.
    """

    __slots__ = (
        "_expected",
        "_given_up",
        "_out",
        "_returned",
        "_rewritten",
        "_whole",
        "answered",
        "awaited",
        "buffered",
        "ended",
    )

    def __init__(self) -> None:
        # Reported and not come back yet, by message; nothing any more once it is rewritten.
        self._expected: deque[bytes] = deque()
        # How much of the first of them has come back.
        self._returned = 0
        self._out: deque[bytes] = deque()
        self._whole = False
        self._rewritten = False
        self._given_up = False
        self.answered = False
        self.buffered = 0
        self.awaited = 0
        self.ended = False

    @property
    def waits(self) -> bool:
        """Whether something was reported that has not come back."""
        return not self.ended and (bool(self._expected) or self._whole)

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
            self._expected.append(piece)
            self.awaited += len(piece)

    def came_back(self, frame: bytes, at: int) -> tuple[bytes, int]:
        """The next piece, where a message in `frame` hands it back as it was, and its end there.

        The piece is to be handed on, or to be `put`. b"" where anything else begins at `at`, which
        is then to be read. Nearly all that is said about an event stream is just that.
        """
        expected = self._expected
        if not expected or self._returned or self.ended:
            return b"", at
        piece = expected[0]
        head = handed_back(len(piece))
        begins = at + len(head)
        if not (piece and frame.startswith(head, at) and frame.startswith(piece, begins)):
            return b"", at
        expected.popleft()
        self.awaited -= len(piece)
        self.answered = True
        return piece, begins + len(piece)

    def unchanged(self) -> None:
        """The picker answers a message with nothing: its piece stays as it is."""
        self.answered = True
        if self._expected and not self.ended:
            self.put(self._struck_off())
            self._end_if_all()

    def replaced(self, piece: bytes) -> None:
        """The picker answers a message with another piece."""
        self.answered = True
        if self.ended:
            return
        self.put(piece)
        if self._expected:
            self._struck_off()
            self._end_if_all()

    def streamed(self, piece: bytes, *, last: bool) -> None:
        """The picker sends a piece of its own cut."""
        self.answered = True
        if self.ended or self._given_up:
            return
        self.put(piece)
        if not self._rewritten:
            self._match(piece)
        self.ended = last

    def give_up(self) -> bool:
        """No more is expected of the picker; the pod's own bytes go on from here.

        False when that cannot be, because what came back so far was rewritten.
        """
        if self.ended or self._given_up:
            return True
        if self._rewritten:
            return False
        self._given_up = True
        while self._expected:
            self.put(self._struck_off())
        self.ended = self._whole
        return True

    def put(self, piece: bytes) -> None:
        """Put out a piece, to be handed on."""
        if piece:
            self._out.append(piece)
            self.buffered += len(piece)

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
        self.ended = self._whole and not self._expected

    def _struck_off(self) -> bytes:
        """What has not come back of the first message."""
        piece = self._expected.popleft()[self._returned :]
        self._returned = 0
        self.awaited -= len(piece)
        return piece

    def _match(self, piece: bytes) -> None:
        """Strike off what came back; or find that it is something else."""
        start = 0
        while start < len(piece) and self._expected:
            # However either side is cut, every byte is looked at once.
            reported, returned = self._expected[0], self._returned
            size = min(len(reported) - returned, len(piece) - start)
            if piece[start : start + size] != reported[returned : returned + size]:
                break
            start += size
            self.awaited -= size
            self._returned += size
            if self._returned == len(reported):
                self._expected.popleft()
                self._returned = 0
        if start < len(piece):
            # The rest cannot be compared, nor be used in its place.
            self._rewritten = True
            self._expected.clear()
            self._returned = self.awaited = 0
