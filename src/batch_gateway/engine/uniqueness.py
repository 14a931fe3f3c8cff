"""Whether every custom_id is the only one of its kind, at four bytes a line."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable

__all__ = ["Numbers", "SeenIds", "secret_numbers", "stable_numbers"]

Numbers = Callable[[Iterable[str]], Iterable[int]]
"""A number for each custom_id; equal ones have equal numbers."""

# A number is known by its remainders of two primes, which choose a bucket and are kept in it:
# 44 bits. Powers of two would look only at the last signs of an id.
_BUCKETS = 4_093
_KEPT = 4_294_967_291
# Past this many, repeated ids are only counted: the run is refused anyway.
_MAX_SUSPECTS = 10_000


def stable_numbers(custom_ids: Iterable[str]) -> Iterable[int]:
    """Their UTF-8 read as numbers: the same in every process and on every machine.

    Whoever wants to can prepare many ids that look repeated.
    """
    return map(int.from_bytes, map(str.encode, custom_ids))


def secret_numbers(custom_ids: Iterable[str]) -> Iterable[int]:
    """Python's own hashes, another one in each process, for which nobody can prepare ids."""
    return map(hash, custom_ids)


class SeenIds:
    """Collects 44 bits of the number of each id; the ids whose bits came twice are suspects.

    A suspect is either a repeated id or two ids that look alike, which only a second look at the
    file can tell apart. That happens to one in 35 files of a million lines without repeats, and
    costs some of them a second reading; eight bytes a line would cost all of them memory.
    """

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._buckets = [array("I") for _ in range(_BUCKETS)]
        self._appends = [bucket.append for bucket in self._buckets]

    def extend(self, custom_ids: Iterable[str]) -> None:
        """Take in the next custom_ids."""
        appends = self._appends
        for number in self._numbers(custom_ids):
            appends[number % _BUCKETS](number % _KEPT)

    def suspects(self) -> Callable[[str], bool] | None:
        """Tells the ids, of some 10,000 at most, that may have come twice; None without any."""
        found: set[tuple[int, int]] = set()
        for place, bucket in enumerate(self._buckets):
            # A bucket at a time, so that the set stays small.
            if len(set(bucket)) != len(bucket):
                again = (kept for kept, times in Counter(bucket).items() if times > 1)
                found.update((place, kept) for kept in again)
            if len(found) > _MAX_SUSPECTS:
                break

        def is_suspect(custom_id: str) -> bool:
            (number,) = self._numbers((custom_id,))
            return (number % _BUCKETS, number % _KEPT) in found

        return is_suspect if found else None
