"""Ids that sort in the order of their making and cannot be guessed: UUIDs of version 7 (RFC 9562).

48 bits are milliseconds, 12 a fraction of one, and 62 are random. (Python has them from 3.14 on.)
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Literal
from uuid import UUID

__all__ = ["new_id"]

_lock = threading.Lock()
_last = 0


def new_id(kind: Literal["file", "batch"], now: float | None = None) -> str:
    """`file_UUID` or `batch_UUID`, which sorts after all that this process made before.

    `now` is in seconds since the epoch; None asks the clock.
    """
    global _last  # noqa: PLW0603 - one order for the whole process
    with _lock:
        # Units of 1/4096 ms, RFC 9562 §6.2, method 3.
        moment = max(int((time.time() if now is None else now) * 4_096_000), _last + 1)
        _last = moment
    milliseconds, fraction = divmod(moment, 4096)
    number = (milliseconds << 80) | (7 << 76) | (fraction << 64) | (2 << 62)
    return f"{kind}_{UUID(int=number | secrets.randbits(62))}"
