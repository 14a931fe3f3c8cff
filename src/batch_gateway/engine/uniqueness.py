"""Whether every custom_id is the only one of its kind, at four bytes a line."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

__all__ = ["SeenIds", "id_hash"]

_BUCKET_BITS = 12
_BUCKETS = 1 << _BUCKET_BITS
_KEPT_BITS = 32
# Past this many, repeated ids are only counted: the run is refused anyway.
_MAX_SUSPECTS = 10_000


def id_hash(custom_id: str) -> int:
    """44 bits: 12 choose a bucket, 32 are kept in it."""
    return hash(custom_id) & ((1 << (_BUCKET_BITS + _KEPT_BITS)) - 1)


class SeenIds:
    """Collects a hash of each id; the ids whose hash came twice are suspects.

    A suspect is either a repeated id or two ids with one hash, which only a second look at the
    file can tell apart. That happens to one in 35 files of a million lines without repeats, and
    costs some of them a second reading; eight bytes a line would cost all of them memory.
    """

    def __init__(self) -> None:
        self._buckets = [array("I") for _ in range(_BUCKETS)]
        self._appends = [bucket.append for bucket in self._buckets]

    def extend(self, custom_ids: Iterable[str]) -> None:
        """Take in the next custom_ids."""
        appends = self._appends
        bucket_mask, kept_mask = _BUCKETS - 1, (1 << _KEPT_BITS) - 1
        for custom_id in custom_ids:
            number = hash(custom_id)
            appends[number & bucket_mask](number >> _BUCKET_BITS & kept_mask)

    def take_suspects(self) -> set[int]:
        """Each `id_hash` that came more than once, some 10,000 at most; forgets everything."""
        self._appends = []
        suspects: set[int] = set()
        for place, bucket in enumerate(self._buckets):
            # A bucket at a time, so that the set stays small.
            if len(set(bucket)) != len(bucket):
                again = (kept for kept, times in Counter(bucket).items() if times > 1)
                suspects.update(kept << _BUCKET_BITS | place for kept in again)
            self._buckets[place] = array("I")
            if len(suspects) > _MAX_SUSPECTS:
                break
        self._buckets = []
        return suspects
