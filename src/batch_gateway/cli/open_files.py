"""The limit on open files, which every connection counts against."""

from __future__ import annotations

from batch_gateway.cli.failure import CommandFailure

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

__all__ = ["allow_connections", "allow_many_connections", "most_connections"]

# Input, output, errors, the event loop's own, and what imports keep open.
_OTHER_FILES = 64
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
    """How many connections there can be, after raising the soft limit as far as it goes."""
    allow_many_connections()
    if resource is None:
        return _MANY
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (_MANY if soft == resource.RLIM_INFINITY else soft) - _OTHER_FILES


def allow_connections(concurrency: int, *, both_ends: bool = False) -> None:
    """Raise the soft limit on open files as far as `concurrency` connections need it.

    With `both_ends`, for a simulator in this process, each takes two. Raises CommandFailure when
    the hard limit is too low.
    """
    if resource is None:
        return
    a_connection = 2 if both_ends else 1
    needed = concurrency * a_connection + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise CommandFailure(
            f"--concurrency {concurrency} needs {needed} open files and the limit is {hard}",
            details=[
                f"use --concurrency {max(1, (hard - _OTHER_FILES) // a_connection)} or less,",
                "or raise the hard limit (ulimit -Hn)",
            ],
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
