"""What becomes of a job that failed: when it is tried again, and when nobody tries any more. Pure.

A store or a database that does not work ends nothing: their jobs wait for it, as long as it takes.
Whatever else keeps a job from its end is given so many tries, and then ends its batch.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from batch_gateway.errors import (
    BatchGatewayError,
    InputError,
    RecordsError,
    RecordsUnavailableError,
    StorageError,
    StorageUnavailableError,
)
from batch_gateway.service.batch_records import BatchProblem
from batch_gateway.service.finalizing import LostResultsError

__all__ = ["MOST_TRIES", "TOLD_ONCE", "JobFailures", "problem_of", "words_of"]

MOST_TRIES: Final = 5
TOLD_ONCE: Final = (RecordsUnavailableError, StorageUnavailableError)
"""Of an outage its own log tells, and no job that it meets."""

_FIRST_WAIT, _LONGEST_WAIT = 5.0, 60.0


@dataclass(slots=True)
class _Course:
    not_before: float = 0.0
    times: int = 0
    tries: int = 0


class JobFailures:
    """The failures of each job, whatever tells jobs apart."""

    def __init__(self) -> None:
        self._courses: dict[Hashable, _Course] = {}

    def may_begin(self, job: Hashable, now: float) -> bool:
        course = self._courses.get(job)
        return course is None or course.not_before <= now

    def note(self, job: Hashable, now: float, *, may_pass: bool) -> bool:
        """One more; whether the job is hopeless now. `may_pass` says that waiting is the cure."""
        course = self._courses.setdefault(job, _Course())
        wait = min(_FIRST_WAIT * 2.0 ** min(course.times, 10), _LONGEST_WAIT)
        course.not_before = now + wait
        course.times += 1
        course.tries += not may_pass
        return course.tries >= MOST_TRIES and not may_pass

    def forget(self, job: Hashable) -> None:
        """The job has come to its end, or went on."""
        self._courses.pop(job, None)


def words_of(error: Exception) -> str:
    """What a batch is told that waits because of this error."""
    problem = problem_of(error)
    if problem is not None:
        return problem.message
    # Not where the store is.
    return error.strerror or "" if isinstance(error, OSError) else str(error)


def problem_of(error: Exception) -> BatchProblem | None:
    """What a batch is told that ends for this error; None when the error may pass by itself."""
    if isinstance(error, LostResultsError):
        return BatchProblem("results_lost", str(error))
    if isinstance(error, StorageError | RecordsError | OSError):
        return None
    if isinstance(error, InputError):
        return BatchProblem("invalid_file", str(error))
    if isinstance(error, BatchGatewayError):
        return BatchProblem("internal_error", str(error))
    return BatchProblem(
        "internal_error", f"A fault of batch-gateway itself ({type(error).__name__}): see its log."
    )
