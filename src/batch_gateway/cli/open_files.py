"""The limit on open files, which every connection counts against."""

from __future__ import annotations

from pathlib import Path

from batch_gateway.cli.failure import CommandFailure

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

__all__ = ["allow_connections", "allow_many_connections", "most_connections", "open_files_limit"]

# Input, output, errors, a cache, name look-ups, and the event loop's own.
_OTHER_FILES = 24
_MANY = 65_536


def allow_many_connections() -> None:
    """Raise the soft limit for a server, which cannot know how many will come."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY if hard == resource.RLIM_INFINITY else min(_MANY, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def most_connections() -> int:
    """How many connections there can be, after raising the soft limit as far as it goes.

    Raises CommandFailure when there can be none.
    """
    allow_many_connections()
    limit = open_files_limit()
    most = limit - _taken()
    if most < 2:
        raise CommandFailure(
            f"the limit on open files is {limit}, which leaves none for connections",
            details=["raise it, for example: ulimit -n 1024"],
        )
    return most


def open_files_limit() -> int:
    """The soft limit."""
    if resource is None:
        return _MANY
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MANY if soft == resource.RLIM_INFINITY else soft


def _taken() -> int:
    """How many files are open by now, and will be beside the connections."""
    try:
        now = sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        now = _OTHER_FILES
    return now + _OTHER_FILES


def allow_connections(concurrency: int, *, both_ends: bool = False) -> None:
    """Raise the soft limit on open files as far as `concurrency` connections need it.

    With `both_ends`, for a simulator in this process, each takes two. Raises CommandFailure when
    the hard limit is too low.
    """
    if resource is None:
        return
    a_connection, taken = 2 if both_ends else 1, _taken()
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
