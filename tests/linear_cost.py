"""Whether work grows with its input and not with the square of it, whatever the machine."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["assert_linear"]

_TIMES_LARGER = 16
_ROUNDS = 5


def assert_linear(work: Callable[[int], None], size: int) -> None:
    """`work` of sixteen times the size takes about sixteen times as long, and never 256 times.

    CPU time of this thread, the best of some rounds, so that a busy machine does not count.
    """
    small = _best(work, size)
    # Below some microseconds a clock says little.
    assert _best(work, size * _TIMES_LARGER) < (small + 20e-6) * _TIMES_LARGER * 4


def _best(work: Callable[[int], None], size: int) -> float:
    times: list[float] = []
    for _ in range(_ROUNDS):
        began = time.thread_time()
        work(size)
        times.append(time.thread_time() - began)
    return min(times)
