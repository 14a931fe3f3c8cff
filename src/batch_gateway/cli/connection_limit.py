"""The limit on open files, which every connection counts against."""

from __future__ import annotations

from batch_gateway.cli.failure import CommandFailure
from batch_gateway.runs.open_files import MANY_FILES, open_files_limit, taken_files

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

__all__ = ["allow_connections", "allow_many_connections", "most_connections"]


def allow_many_connections() -> None:
    """Raise the soft limit for a server, which cannot know how many will come."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """How many connections there can be, after raising the soft limit as far as it goes.

    Raises CommandFailure when there can be none.
    """
    allow_many_connections()
    limit = open_files_limit()
    most = limit - taken_files()
    if most < 2:
        raise CommandFailure(
            f"the limit on open files is {limit}, which leaves none for connections",
            details=["raise it, for example: ulimit -n 1024"],
        )
    return most


def allow_connections(concurrency: int, *, both_ends: bool = False) -> None:
    """Raise the soft limit on open files as far as `concurrency` connections need it.

    With `both_ends`, for a simulator in this process, each takes two. Raises CommandFailure when
    the hard limit is too low.
    """
    if resource is None:
        return
    a_connection, taken = 2 if both_ends else 1, taken_files()
    needed = concurrency * a_connection + taken
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CommandFailure(
            f"--concurrency {concurrency} needs {needed} open files and the limit is {hard}",
            details=[
                f"use --concurrency {max(1, (hard - taken) // a_connection)} or less,",
                "or raise the hard limit (ulimit -Hn)",
            ],
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
