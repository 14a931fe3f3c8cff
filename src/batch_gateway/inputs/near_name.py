"""The name that somebody may have meant by another, where it is near."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'review'?)", or nothing where no known name is near."""
    import difflib  # noqa: PLC0415 - most never need it

    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.75)
    return f" (did you mean {by_lower[found[0]]!r}?)" if found else ""
