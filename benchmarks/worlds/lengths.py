"""How many tokens prompts and answers have: distributions that say what they are.

Each is a value with a `repr`, so that results which are kept between runs know what they are of.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Draw", "Few", "Lengths", "LogNormal", "Pareto", "Same", "Uniform"]

Draw = Callable[[random.Random], int]


@dataclass(frozen=True)
class Same:
    """All of one length."""

    tokens: int

    def __call__(self, draws: random.Random) -> int:
        return self.tokens


@dataclass(frozen=True)
class Uniform:
    """Half to one and a half times the mean, as the simulator's own default."""

    mean: int

    def __call__(self, draws: random.Random) -> int:
        return max(1, round(self.mean * (0.5 + draws.random())))


@dataclass(frozen=True)
class LogNormal:
    median: float
    sigma: float
    low: int
    high: int

    def __call__(self, draws: random.Random) -> int:
        drawn = round(draws.lognormvariate(math.log(self.median), self.sigma))
        return min(self.high, max(self.low, drawn))


@dataclass(frozen=True)
class Few:
    """A few distinct lengths: (share, tokens), the shares adding up to 1."""

    choices: tuple[tuple[float, int], ...]

    def __call__(self, draws: random.Random) -> int:
        left = draws.random()
        for share, tokens in self.choices:
            left -= share
            if left < 0:
                return tokens
        return self.choices[-1][1]


@dataclass(frozen=True)
class Pareto:
    """Few are very long: P(longer than x) = (low / x)^alpha, up to `high`."""

    alpha: float
    low: int
    high: int

    def __call__(self, draws: random.Random) -> int:
        return min(self.high, round(self.low * draws.paretovariate(self.alpha)))


@dataclass(frozen=True)
class Lengths:
    """Tokens of prompts and of answers."""

    prompt: Draw
    output: Draw
