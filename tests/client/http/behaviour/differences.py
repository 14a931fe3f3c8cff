"""Every difference between the two transports, as a decision: what each does, and why.

A test that finds them different asks `expected` for its transport's side; nothing else in the
suite looks at which transport it runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DIFFERENCES", "expected"]


@dataclass(frozen=True)
class Difference:
    """What a test is to expect of each transport."""

    native: Any
    aiohttp: Any
    reason: str


DIFFERENCES: dict[str, Difference] = {
    "a folded header": Difference(
        native="refused",
        aiohttp="accepted",
        reason="aiohttp runs llhttp in its lenient mode; RFC 9112 §5.2 lets a client do either",
    ),
}


def expected(behaviour: str, transport: str) -> Any:
    """This transport's side of a difference."""
    return getattr(DIFFERENCES[behaviour], transport)
