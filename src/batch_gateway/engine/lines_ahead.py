"""The lines of one lane of a stream that were not sent yet, in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import msgspec

from batch_gateway.client.interfaces.request import InferenceRequest, InferenceResponse
from batch_gateway.errors import InferenceError

__all__ = ["LinesAhead", "StreamedLine"]


class StreamedLine(msgspec.Struct):
    """A line on its way.

    Attributes:
        answer: the last one that it had, which may not become its result.
        is_ahead: its turn in the order has not come.
        in_flight: it is being sent.
        is_told: it has its result.
    """

    index: int
    custom_id: str
    request: InferenceRequest
    answer: InferenceResponse | InferenceError | None = None
    is_ahead: bool = True
    in_flight: bool = False
    is_told: bool = False

    @property
    def size(self) -> int:
        return len(self.request.params)


class LinesAhead:
    """What a lane takes its lines from; `moved` is called when it has taken one.

    `lines` are those of all lanes that have no result. Of them a line that was tried before its
    turn stays until that has come, told or not.
    """

    def __init__(self, lines: dict[int, StreamedLine], moved: Callable[[], None]) -> None:
        self.is_complete = False
        self._lines = lines
        self._moved = moved
        self._ahead: deque[int] = deque()
        self._next: int | None = None
        self._taking: Iterator[int] | None = None

    def __len__(self) -> int:
        return len(self._ahead)

    def add(self, index: int) -> None:
        self._ahead.append(index)

    def clear(self) -> None:
        """None of them will be sent."""
        while self.advance() is not None:
            pass

    def in_order(self) -> Iterator[int]:
        """The first time what the lane takes its lines from, then what it would take."""
        if self._taking is None:
            self._taking = _Taking(self)
            return self._taking
        first = () if self._next is None else (self._next,)
        return iter([*first, *self._ahead])

    def model_of(self, index: int) -> str:
        return self._lines[index].request.model

    def size_of(self, index: int) -> int:
        return self._lines[index].size

    def advance(self) -> int | None:
        """The lane is done with the line before, which was sent or passed over: the next one."""
        if self._next is not None:
            line = self._lines[self._next]
            line.is_ahead = False
            if line.is_told:
                del self._lines[line.index]
        self._next = self._ahead.popleft() if self._ahead else None
        self._moved()
        return self._next


class _Taking:
    """Has more whenever more lines came."""

    def __init__(self, ahead: LinesAhead) -> None:
        self._ahead = ahead

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        index = self._ahead.advance()
        if index is None:
            raise StopIteration
        return index
