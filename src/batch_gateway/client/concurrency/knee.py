"""Where throughput stops growing with the number in flight: pure arithmetic on readings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from batch_gateway.concurrency.rounds import Reading

__all__ = ["Elasticity", "elasticity", "knee", "local_elasticity"]

_FORGET = 0.9
_RIDGE = 0.002
_NEAR = 0.08
# Readings scatter by more than their own errors: the server's pace wanders between them.
_SCATTER = 0.01


class Elasticity(NamedTuple):
    """By what share throughput grows for each share that the number in flight grows: 1 on an
    idle server, 0 past the knee. `error` is its standard error."""

    value: float
    error: float


def elasticity(low: Reading, high: Reading, tokens: float) -> float:
    """Between two readings, at answers of `tokens`.

    By Little's law throughput is in-flight / latency, so this is one less the elasticity of
    latency, which is far less noisy to measure than a count of answers.
    """
    grown = math.log(high.in_flight / low.in_flight)
    return 1.0 - math.log(high.latency(tokens) / low.latency(tokens)) / grown


def local_elasticity(readings: Sequence[Reading], tokens: float, prior: float) -> Elasticity:
    """Around the last reading, by regression of log latency on log in-flight.

    Old and distant readings count for less. Where the numbers in flight hardly differ, so that
    noise would decide, the answer is drawn towards `prior` (Hoerl and Kennard, 1970).
    """
    here = math.log(readings[-1].in_flight)
    points: list[tuple[float, float, float]] = []
    age = 1.0
    for reading in reversed(readings):
        n, latency = math.log(reading.in_flight), math.log(reading.latency(tokens))
        points.append((age * math.exp(-(((n - here) / _NEAR) ** 2) / 2), n, latency))
        age *= _FORGET
    total = sum(w for w, _, _ in points)
    n_mean = sum(w * n for w, n, _ in points) / total
    l_mean = sum(w * latency for w, _, latency in points) / total
    spread = sum(w * (n - n_mean) ** 2 for w, n, _ in points) + _RIDGE
    joint = sum(w * (n - n_mean) * (latency - l_mean) for w, n, latency in points)
    slope = (joint + _RIDGE * (1.0 - prior)) / spread
    residual = sum(w * (latency - l_mean - slope * (n - n_mean)) ** 2 for w, n, latency in points)
    noise = residual / total + _SCATTER**2 / len(points)
    return Elasticity(1.0 - slope, math.sqrt(noise / spread))


def knee(below: Sequence[Reading], above: Reading, tokens: float) -> float:
    """Where the line of latency below the knee meets the hyperbola of saturation above it.

    Below, a step of continuous batching takes a + b * n; above, the rate stays that of `above`
    and latency is n / rate. They meet at n = a * rate / (1 - b * rate).
    """
    last, rate = below[-1], above.rate(tokens)
    guess = rate * last.latency(tokens)
    if len(below) >= 2 and below[-2].in_flight < last.in_flight:
        before = below[-2]
        slope = (last.latency(tokens) - before.latency(tokens)) / (
            last.in_flight - before.in_flight
        )
        base = last.latency(tokens) - slope * last.in_flight
        if slope > 0 and base > 0 and slope * rate < 0.95:
            guess = base * rate / (1 - slope * rate)
    return min(above.in_flight, max(0.9 * last.in_flight, guess))
