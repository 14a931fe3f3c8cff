"""How right estimates of the time left are, in simulated worlds of many kinds: a table.

`python -m benchmarks.time_left`; the time is virtual, so that it takes half a minute.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from batch_gateway.engine.time_left import TimeLeft

__all__ = ["WORLDS", "Moment", "World", "moments"]

Takes = Callable[[int, float, random.Random], float]
"""The seconds that a line takes, by its number and by the second at which it is sent."""


@dataclass(frozen=True, kw_only=True)
class World:
    """A gateway and a file.

    Attributes:
        lines, places: of the file, and how many are sent at a time, by the second.
        takes: how long a line takes.
        has_sizes: longer lines have more bytes.
        quota: so many lines may begin in a period of so many seconds.
        burst: so many lines go before the quota counts.
        outage: from when to when nothing is answered.
        again: the share of sendings that fail and are repeated.
        foretells: whether anything that happened says what comes.
    """

    lines: int
    takes: Takes
    places: Callable[[float], int] = lambda at: 64
    has_sizes: bool = False
    quota: tuple[int, float] | None = None
    burst: int = 0
    outage: tuple[float, float] = (0.0, 0.0)
    again: float = 0.0
    foretells: bool = True


class Moment(NamedTuple):
    """What was said at one second of a run, and what would have been right."""

    at: float
    said: float | None
    right: float

    @property
    def ratio(self) -> float | None:
        return None if self.said is None else self.said / max(self.right, 1e-9)


def moments(world: World, seed: int = 1) -> tuple[list[Moment], float]:
    """A run of a world, second by second, and how long it took."""
    run = _Run(world, random.Random(seed))
    said = list(run.told())
    return [Moment(at, left, run.now - at) for at, left in said], run.now


class _Run:
    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.now, self.sent, self.done, self.held = 0.0, 0, 0, 0.0
        self.under_way: list[tuple[float, int]] = []
        self.periods: Counter[int] = Counter()
        self.time_left = TimeLeft()
        told = random.Random(9)
        self.sizes = [
            200 + int(1000 * world.takes(n, 0.0, told)) if world.has_sizes else 100
            for n in range(world.lines)
        ]

    def told(self) -> Iterator[tuple[float, float | None]]:
        world, time_left = self.world, self.time_left
        time_left.look(0, 0.0)
        tick = 1.0
        while self.done < world.lines:
            while self.sent < world.lines and len(self.under_way) < world.places(self.now):
                self.send()
            if tick > self.under_way[0][0]:
                self.end(*heapq.heappop(self.under_way))
                continue
            self.now, tick = tick, tick + 1
            is_down = world.outage[0] <= self.now < world.outage[1]
            time_left.look(self.done, self.now, is_down=is_down, held=self.held)
            left = world.lines - self.done
            yield self.now, None if is_down else time_left.seconds(left, sum(self.sizes))

    def send(self) -> None:
        world, line = self.world, self.sent
        began = self.turn()
        self.held += began - self.now
        end = began + world.takes(line, began, self.chance)
        while self.chance.random() < world.again:
            end += 1 + world.takes(line, end, self.chance)
        down, up = world.outage
        if self.now < up and end > down:
            end = up + world.takes(line, up, self.chance)
        self.time_left.begin(line, self.now)
        heapq.heappush(self.under_way, (end, line))
        self.sent += 1

    def turn(self) -> float:
        """When the quota allows a line to begin."""
        if self.world.quota is None or self.sent < self.world.burst:
            return self.now
        most, seconds = self.world.quota
        period = int(self.now // seconds)
        while self.periods[period] >= most:
            period += 1
        self.periods[period] += 1
        return max(self.now, period * seconds)

    def end(self, at: float, line: int) -> None:
        self.now, self.done = at, self.done + 1
        self.time_left.end(line, self.sizes[line], lambda: at)


def _even(low: float, high: float) -> Takes:
    return lambda line, at, chance: chance.uniform(low, high)


def _pareto(mean: float, shape: float) -> Takes:
    least = mean * (shape - 1) / shape
    return lambda line, at, chance: least * chance.paretovariate(shape)


def _lognormal(mean: float, sigma: float) -> Takes:
    middle = math.log(mean) - sigma**2 / 2
    return lambda line, at, chance: chance.lognormvariate(middle, sigma)


def _from_to(lines: int, first: float, last: float) -> Takes:
    slope = (last - first) / lines
    return lambda line, at, chance: (first + slope * line) * chance.uniform(0.8, 1.2)


def _sorted(lines: int, way: int) -> Takes:
    share = NormalDist().inv_cdf
    return lambda line, at, chance: (
        2 * math.exp(0.8 * way * share((line + 0.5) / lines)) * chance.uniform(0.9, 1.1)
    )


def _wobble(line: int, at: float, chance: random.Random) -> float:
    return (1 + 0.5 * math.sin(at * math.tau / 20)) * chance.uniform(0.8, 1.2)


def _two_speeds(line: int, at: float, chance: random.Random) -> float:
    return (1 if int(at / 30) % 2 else 4) * chance.uniform(0.4, 0.6)


def _few_slow(line: int, at: float, chance: random.Random) -> float:
    return chance.uniform(0.8, 1.2) * (40 if chance.random() < 0.003 else 1)


def _last_slow(line: int, at: float, chance: random.Random) -> float:
    return 60 if line >= 997 else chance.uniform(0.8, 1.2)


def _doubling(every: float, most: int) -> Callable[[float], int]:
    return lambda at: min(most, int(8 * 2 ** (at / every)))


WORLDS: Mapping[str, World] = {
    "constant": World(lines=6_000, takes=_even(0.9, 1.1)),
    "four places": World(lines=300, takes=_even(1.5, 2.5), places=lambda at: 4),
    "exponential": World(lines=6_000, takes=lambda line, at, chance: chance.expovariate(0.5)),
    "fast": World(lines=100_000, takes=_even(0.05, 0.1), places=lambda at: 100),
    "places double each second": World(
        lines=20_000, takes=_even(0.8, 1.2), places=_doubling(1, 256)
    ),
    "places double in 4 s": World(lines=20_000, takes=_even(1.8, 2.2), places=_doubling(4, 256)),
    "places double in 10 s": World(lines=8_000, takes=_even(2, 3), places=_doubling(10, 128)),
    "places grow for 60 s": World(
        lines=15_000, takes=_even(1, 2), places=lambda at: min(200, 8 + int(at * 3.2))
    ),
    "places saw 48 to 96": World(
        lines=10_000, takes=_even(0.8, 1.2), places=lambda at: int(48 + 48 * (at / 15 % 1))
    ),
    "wobble 0.5 to 1.5 in 20 s": World(lines=12_000, takes=_wobble),
    "wobble 1 to 4 in 60 s": World(lines=10_000, takes=_two_speeds, foretells=False),
    "Pareto 1.5": World(lines=6_000, takes=_pareto(1.0, 1.5), foretells=False),
    "Pareto 3": World(lines=6_000, takes=_pareto(2.0, 3.0)),
    "lognormal": World(lines=6_000, takes=_lognormal(2.0, 1.0)),
    "answers of 30 s": World(lines=1_000, takes=_even(29, 31)),
    "answers of 25 to 60 s": World(lines=1_000, takes=_even(25, 60)),
    "1 to 5 s, sorted": World(lines=3_000, takes=_from_to(3_000, 1, 5)),
    "5 to 1 s, sorted": World(lines=6_000, takes=_from_to(6_000, 5, 1)),
    "lognormal, sorted up": World(lines=4_000, takes=_sorted(4_000, 1), foretells=False),
    "lognormal, sorted down": World(lines=4_000, takes=_sorted(4_000, -1)),
    "the same up, sizes say it": World(lines=4_000, takes=_sorted(4_000, 1), has_sizes=True),
    "the same down, sizes say it": World(lines=4_000, takes=_sorted(4_000, -1), has_sizes=True),
    "600 a minute at once": World(lines=6_000, takes=_even(0.1, 0.3), quota=(600, 60)),
    "600 at once, then 10 a second": World(
        lines=3_000, takes=_even(0.1, 0.3), quota=(10, 1), burst=600
    ),
    "20 a second": World(lines=3_000, takes=_even(0.1, 0.3), quota=(20, 1)),
    "outage from 60 to 120 s": World(lines=6_000, takes=_even(1.5, 2.5), outage=(60, 120)),
    "outage from 40 to 340 s": World(lines=6_000, takes=_even(1.0, 1.2), outage=(40, 340)),
    "a fifth sent again": World(lines=6_000, takes=_even(0.8, 1.2), again=0.2),
    "three in 1,000 take 40 times": World(lines=5_000, takes=_few_slow, foretells=False),
    "the last three take 60 s": World(
        lines=1_000, takes=_last_slow, places=lambda at: 20, foretells=False
    ),
    "40 lines in 64 places": World(lines=40, takes=_lognormal(20.0, 0.5)),
}
_SHARES = (0.25, 0.5, 0.75)


def _row(name: str, world: World) -> str:
    told, whole = moments(world)
    at_ten = (10 / whole,) if whole > 10 else (0.0,)
    cells = [_cell([one for one in told if one.at <= whole * x]) for x in (*at_ten, *_SHARES)]
    late = [one for one in told if one.at >= 10]
    said = [one for one in late if one.ratio is not None]
    right = [one for one in said if 1 / 1.5 <= (one.ratio or 0.0) <= 1.5]
    of_said = f"{len(right) / len(said):.0%}" if said else ""
    cells += [f"{len(said) / len(late):.0%}", of_said]
    return f"| {name} | {whole:.0f} s | {' | '.join(cells)} |"


def _cell(so_far: list[Moment]) -> str:
    ratio = so_far[-1].ratio if so_far else None
    return "—" if ratio is None else f"{ratio:.2f}"


def main() -> None:
    print("Estimated over true time left; — where nothing is said.\n")
    print("| World | Takes | 10 s | 25 % | 50 % | 75 % | Said | Within 1.5 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, world in WORLDS.items():
        print(_row(name, world))


if __name__ == "__main__":
    main()
