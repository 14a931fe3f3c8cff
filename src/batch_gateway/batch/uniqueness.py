"""Whether every custom_id is the only one of its kind, at eight bytes a line."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable

__all__ = ["SeenIds"]

_BUCKETS = 256
# Past this many, repeated ids are only counted: the run is refused anyway.
_MAX_SUSPECTS = 10_000


class SeenIds:
    """Collects a hash of each id; the ids whose hash came twice are suspects.

    A suspect is either a repeated id or two ids with one 64-bit hash (1 in 36 million files of a
    million lines), which only a second look at the file can tell apart.
    """

    def __init__(self) -> None:
        self._buckets = [array("q") for _ in range(_BUCKETS)]

    def adder(self) -> Callable[[str], None]:
        """A function that takes in the next custom_id."""
        appends = [bucket.append for bucket in self._buckets]

        def add(custom_id: str) -> None:
            number = hash(custom_id)
            appends[number & (_BUCKETS - 1)](number)

        return add

    def take_suspects(self) -> set[int]:
        """Hashes that came more than once, at most 10,000 of them; forgets everything."""
        suspects: set[int] = set()
        for place, bucket in enumerate(self._buckets):
            # A bucket at a time, so that the set stays small.
            if len(set(bucket)) != len(bucket):
                suspects.update(number for number, n in Counter(bucket).items() if n > 1)
            self._buckets[place] = array("q")
            if len(suspects) > _MAX_SUSPECTS:
                break
        self._buckets = []
        return suspects
