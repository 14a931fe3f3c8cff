"""When a job that failed is tried again, and when nobody tries any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_gateway.errors import (
    InputError,
    JournalError,
    NotStoredError,
    RecordsError,
    StorageFullError,
)
from batch_gateway.service.job_failures import MOST_TRIES, JobFailures, problem_of


def _wait(failures: JobFailures, now: float) -> float:
    """How long after `now` the job `j` may begin, in whole seconds."""
    return next(s for s in range(3600) if failures.may_begin("j", now + s))


def test_each_try_waits_longer_up_to_a_minute() -> None:
    failures = JobFailures()
    assert failures.may_begin("j", 0.0)
    waits: list[float] = []
    for _ in range(7):
        failures.note("j", 100.0, may_pass=True)
        waits.append(_wait(failures, 100.0))
    assert waits == [5, 10, 20, 40, 60, 60, 60]
    failures.forget("j")
    assert failures.may_begin("j", 100.0)


@given(st.lists(st.booleans(), max_size=40))
def test_only_what_does_not_pass_makes_a_job_hopeless(passing: list[bool]) -> None:
    failures = JobFailures()
    for number, may_pass in enumerate(passing):
        hopeless = failures.note("j", 0.0, may_pass=may_pass)
        tries = passing[: number + 1].count(False)
        assert hopeless is (not may_pass and tries >= MOST_TRIES)


def test_jobs_fail_each_for_itself() -> None:
    failures = JobFailures()
    for _ in range(MOST_TRIES):
        failures.note("a", 0.0, may_pass=False)
    assert not failures.note("b", 0.0, may_pass=False)
    assert failures.may_begin("c", 0.0)


@pytest.mark.parametrize(
    "error", [StorageFullError("x"), NotStoredError("x"), RecordsError("x"), OSError("x")]
)
def test_a_store_and_a_database_that_fail_are_waited_for(error: Exception) -> None:
    assert problem_of(error) is None


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), "invalid_file"),
        (JournalError("x"), "internal_error"),
        (KeyError("secret"), "internal_error"),
    ],
)
def test_other_errors_are_told_without_what_is_in_them(error: Exception, code: str) -> None:
    problem = problem_of(error)
    assert problem is not None
    assert problem.code == code
    assert "secret" not in problem.message
