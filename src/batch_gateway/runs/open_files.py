"""How many files, which connections are too, this process may have open."""

from __future__ import annotations

from pathlib import Path

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None

__all__ = ["MANY_FILES", "open_files_limit", "taken_files"]

# Input, output, errors, a cache, name look-ups, and the event loop's own.
_OTHER_FILES = 24

MANY_FILES = 65_536
"""As many as none, for who counts connections."""


def open_files_limit() -> int:
    """The soft limit."""
    if resource is None:
        return MANY_FILES
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_FILES if soft == resource.RLIM_INFINITY else soft


def taken_files() -> int:
    """How many files are open by now, and will be beside the connections."""
    try:
        now = sum(1 for _ in Path("/dev/fd").iterdir())
    except OSError:
        now = _OTHER_FILES
    return now + _OTHER_FILES
