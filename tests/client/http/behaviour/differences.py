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
    "a header value outside ASCII": Difference(
        native=b"caf\xe9",
        aiohttp=b"caf\xc3\xa9",
        reason="aiohttp encodes headers as UTF-8; RFC 9110 §5.5 calls them opaque bytes",
    ),
    "a thousand headers": Difference(
        native="accepted",
        aiohttp="refused",
        reason="aiohttp reads at most 128; no gateway is known to send so many",
    ),
    "a reset in the head on a reused connection": Difference(
        native="connection error",
        aiohttp="sent again",
        reason="aiohttp does not say how much of a head had arrived",
    ),
    "the socket of a given-up upload": Difference(
        native="closed at once",
        aiohttp="closed when the server reads or leaves",
        reason="aiohttp flushes its buffer before it closes; nothing public aborts",
    ),
    "idle connections above the cap": Difference(
        native="closed",
        aiohttp="kept until idle_timeout",
        reason="aiohttp has no such cap; only max_idle_connections=0 is obeyed, as no reuse",
    ),
    "a length or chunk size that is oddly written": Difference(
        native="read",
        aiohttp="refused",
        reason="aiohttp has no say in how strict its parser is; what each can mean is clear",
    ),
    "an endless chunk extension": Difference(
        native="refused at 64 KiB",
        aiohttp="read until the deadline",
        reason="aiohttp forgets it as it comes, and does not count it",
    ),
    "the connection after an odd answer": Difference(
        native="closed",
        aiohttp="perhaps kept",
        reason="aiohttp does not say that it was lenient",
    ),
    "an answer followed by a reset": Difference(
        native="read",
        aiohttp="perhaps lost",
        reason="aiohttp gives up when its write fails, though the answer may be there to read",
    ),
    "a refusal behind the TLS handshake": Difference(
        native="told",
        aiohttp="told, or a plain connection error",
        reason="an alert that arrives just before aiohttp writes is lost in its failed write",
    ),
    "TLS over a Unix socket": Difference(
        native="spoken",
        aiohttp="refused",
        reason="aiohttp would send plain HTTP, key included; a clear error at construction",
    ),
}


def expected(behaviour: str, transport: str) -> Any:
    """This transport's side of a difference."""
    return getattr(DIFFERENCES[behaviour], transport)
