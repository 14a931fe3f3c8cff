"""The table of worlds: each figure over seeds, what was aimed at, and whether it was reached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from benchmarks.tables import Aim
from benchmarks.worlds.knowing_people import Told
from benchmarks.worlds.policies import FORMS
from benchmarks.worlds.suite import (
    best_fixed,
    kindest_fixed,
    run,
    settling_times,
    used_and_ttft,
)
from benchmarks.worlds.world import World

__all__ = ["COLUMNS", "Cell", "Figures", "aims_of", "cell", "figures", "row"]


@dataclass(frozen=True)
class Figures:
    """Of one contender in one run; None for what a world does not have.

    Attributes:
        goodput: share of the oracle's output tokens.
        wait: mean time in the server's queue over the mean time of service.
        refused: share of what was sent.
        lost: lines that ran out of retries.
        quota: share of what the quota grants that was answered.
        least: what the client that got least got, over an equal share.
        settle: longest time to a new level, in seconds.
        used: share of the capacity that people leave.
        ttft: p99 of the people's time to first token, over that without a batch.
    """

    goodput: float | None
    wait: float
    refused: float
    lost: int
    quota: float | None = None
    least: float | None = None
    settle: float | None = None
    used: float | None = None
    ttft: float | None = None


def figures(world: World, contender: str) -> Figures:
    """Of one run with the world's seed."""
    found = run(world, contender)
    told = found.figures
    goodput = quota = least = settle = used = ttft = None
    if world.interactive is not None:
        used, ttft = used_and_ttft(world, contender)
    else:
        best = best_fixed(world, streamed=_streams(contender))[1].figures["tokens_per_second"]
        goodput = told["tokens_per_second"] / best
    if world.quota is not None:
        granted = world.quota.granted(world.duration)
        answered = told["tokens_per_second"] * world.duration
        quota = (answered if world.quota.of_tokens else told["completed"]) / granted
    if len(world.clients) > 1:
        least = told["least_share"]
    if world.aims.settle is not None and found.timeline:
        settle = max(settling_times(world, found))
    return Figures(
        goodput,
        told["wait_share"],
        told["refused_share"],
        told["lost"],
        quota,
        least,
        settle,
        used,
        ttft,
    )


def _streams(contender: str) -> bool:
    return contender.endswith(FORMS["streamed"])


@dataclass(frozen=True)
class Cell:
    """One contender in one world, over several seeds."""

    world: World
    contender: str
    seeds: tuple[int, ...]
    runs: tuple[Figures, ...]

    def mean(self, name: str) -> float | None:
        values = self._values(name)
        return fmean(values) if values else None

    def least(self, name: str) -> float | None:
        return min(self._values(name), default=None)

    def most(self, name: str) -> float | None:
        return max(self._values(name), default=None)

    def _values(self, name: str) -> list[float]:
        values = [getattr(one, name) for one in self.runs]
        return [value for value in values if value is not None]


def cell(world: World, contender: str, seeds: Sequence[int]) -> Cell:
    runs = tuple(figures(replace(world, seed=seed), contender) for seed in seeds)
    return Cell(world, contender, tuple(seeds), runs)


# -- aims ----------------------------------------------------------------------------------


def aims_of(found: Cell) -> list[Aim]:
    """What was aimed at in that world, each with the worst of the seeds."""
    aims = found.world.aims
    unseen = tuple(told.value for told in Told if not told.streamed)
    sees = "," in found.contender and not found.contender.startswith(unseen)
    ttft = aims.ttft if sees else aims.ttft_unseen
    wanted: list[tuple[str, str, float | None, bool]] = [
        ("goodput", "goodput", aims.goodput, True),
        ("quota", "quota", aims.quota, True),
        ("refused", "refused", aims.refused, False),
        ("wait", "wait", aims.wait, False),
        ("least client", "least", aims.least, True),
        ("lost", "lost", aims.lost, False),
        ("new level", "settle", aims.settle, False),
        ("p99 TTFT", "ttft", ttft, False),
        ("leftover", "used", aims.leftover, True),
    ]
    made: list[Aim] = []
    for what, name, bound, at_least in wanted:
        value = found.least(name) if at_least else found.most(name)
        if bound is not None and value is not None:
            # The figures are shown with three digits, and judged by what is shown.
            made.append(Aim(f"{found.world.name}: {what}", round(value, 3), bound, at_least))
    return made


# -- rows ----------------------------------------------------------------------------------

COLUMNS = (
    *("goodput", "wait", "refused", "lost", "quota", "least", "new level"),
    *("leftover", "p99 TTFT", "best fixed", "aims"),
)


def row(found: Cell) -> list[str]:
    """Mean (worst) of goodput, leftover and p99, the worst of the rest, and the aims missed."""
    missed = [aim.what.partition(": ")[2] for aim in aims_of(found) if not aim.met]
    return [
        _both(found, "goodput", found.least),
        _share(found.most("wait")),
        _share(found.most("refused")),
        str(round(found.most("lost") or 0)) if found.most("lost") else "",
        _plain(found.least("quota")),
        _plain(found.least("least")),
        _plain(found.most("settle"), "{:.1f} s"),
        _both(found, "used", found.least),
        _both(found, "ttft", found.most, "{:.2f} ({:.2f})"),
        _oracle(found),
        f"missed: {', '.join(missed)}" if missed else "met",
    ]


def _oracle(found: Cell) -> str:
    """The best fixed limit of the first seed; beside people, what somebody who knows them gets
    with all of the seeds."""
    if found.world.interactive is None:
        first = replace(found.world, seed=1)
        return str(best_fixed(first, streamed=_streams(found.contender))[0])
    limit, used, ttft = kindest_fixed(found.world, found.seeds)
    return f"{limit}: {used:.2f} at {ttft:.2f}"


def _both(
    found: Cell, name: str, worst: Callable[[str], float | None], form: str = "{:.3f} ({:.3f})"
) -> str:
    mean, extreme = found.mean(name), worst(name)
    return "" if mean is None or extreme is None else form.format(mean, extreme)


def _share(value: float | None) -> str:
    return f"{value:.1%}" if value and value >= 0.0005 else ""


def _plain(value: float | None, form: str = "{:.3f}") -> str:
    return "" if value is None else form.format(value)
