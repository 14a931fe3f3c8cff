"""Flow control of what is received (RFC 9113 §5.2): how much may come, and when to allow more."""

from __future__ import annotations

__all__ = ["ReceiveWindow"]


class ReceiveWindow:
    """The window of a stream or a connection. `size` bytes may be on their way or unread.

    More is allowed in portions of half the window, so that small exchanges cost no frame.

    Attributes:
        worn: so much has arrived that `use` may allow more; until then it can be put off.
    """

    __slots__ = ("_kept", "_left", "_portion", "_unread", "_used", "worn")

    def __init__(self, size: int) -> None:
        self._left = size
        self._portion = portion = max(1, size // 2)
        self._kept = size - portion
        self.worn = False
        self._unread: int = 0
        self._used: int = 0

    @property
    def spare(self) -> int:
        """How much may arrive before it is worn; less than nothing if it is."""
        return self._left - self._kept - 1

    def take(self, size: int) -> bool:
        """So many bytes arrived; whether they were allowed to."""
        self._left = left = self._left - size
        self._unread += size
        self.worn = left <= self._kept
        return left >= 0

    def use(self, size: int) -> int:
        """So many of them were read. Returns how many more to allow; mostly 0."""
        size = min(size, self._unread)
        self._unread -= size
        self._used += size
        if self._used < self._portion:
            return 0
        increment, self._used = self._used, 0
        self._left += increment
        self.worn = self._left <= self._kept
        return increment

    def use_all(self) -> int:
        """As `use`, for all that arrived."""
        return self.use(self._unread)
