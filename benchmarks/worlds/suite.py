"""Runs worlds and contenders, with results kept between runs: by what happens in the world, the
seed, and the code that both are made of, so that a change of the controller alone computes no
fixed limit again."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import batch_gateway
from benchmarks.environment import OUT
from benchmarks.worlds.knowing import KNOWING, KnowsPace
from benchmarks.worlds.knowing_people import Told, ways_of
from benchmarks.worlds.policies import FORMS, policy_named
from benchmarks.worlds.record import BIN, Record
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.world import World

__all__ = [
    "Run",
    "best_fixed",
    "best_way",
    "kindest_fixed",
    "run",
    "settling_times",
    "used_and_ttft",
    "variant",
]

ALL_OF_IT = 1_000
"""A fixed limit that takes everything that people leave, whatever becomes of them."""

_HERE = Path(__file__).parent
_PACKAGE = Path(batch_gateway.__file__).parent
_SIMULATION = (
    *("agenda.py", "client.py", "gateway.py", "lengths.py", "people.py", "policy.py"),
    *("pool.py", "quotas.py", "record.py", "simulation.py"),
)
_MODEL = ("batching.py", "capacity.py", "quota.py", "waiting.py")
_TRIAL = 600.0
_Who = TypeVar("_Who")
_WITHOUT_CONTROLLER = ("fixed ", "AIMD", "knows ")
_TIMELINES = ("limit", "in_flight", "waiting", "tokens", "refused")


@dataclass(frozen=True)
class Run:
    """Figures of one contender in one world, and its timeline in bins of half a second, which is
    not kept of fixed limits."""

    figures: dict[str, Any]
    timeline: dict[str, list[float]]


def run(world: World, contender: str) -> Run:
    """One run, or what it brought when the same code ran before."""
    path = OUT / "worlds" / f"{_digest(world, contender)}.json"
    if path.is_file():
        kept = json.loads(path.read_text("utf-8"))
        return Run(kept["figures"], kept["timeline"])
    record = simulate(world, *[policy_named(contender) for _ in world.clients])
    timeline = {} if contender.startswith("fixed") else _timeline(record)
    done = Run(record.figures(), timeline)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"figures": done.figures, "timeline": done.timeline}), "utf-8")
    return done


def _timeline(record: Record) -> dict[str, list[float]]:
    timeline = {name: getattr(record, f"{name}_by_bin") for name in _TIMELINES}
    timeline["latency"] = [
        total / count if count else 0.0
        for total, count in zip(record.latency_by_bin, record.completed_by_bin, strict=True)
    ]
    return {name: [round(value, 2) for value in values] for name, values in timeline.items()}


# -- fixed limits --------------------------------------------------------------------------


def best_fixed(world: World, *, streamed: bool = False) -> tuple[int, Run]:
    """The oracle: of the fixed limits, the smallest that is within half a per cent of the best.

    A client that is short of CPU has less of it left where it reads streams, so there the limits
    are tried as `streamed` as ours is; elsewhere it makes no difference. With another seed than
    the first, only its best limit and their neighbours are tried.
    """
    first = replace(world, seed=1)
    tried = (
        world.oracle if world == first else _around(world, best_fixed(first, streamed=streamed)[0])
    )
    form = FORMS["streamed"] if streamed and world.busy else ""
    runs = {limit: run(world, f"fixed {limit:,}{form}") for limit in tried}
    most = max(found.figures["tokens_per_second"] for found in runs.values())
    good = [n for n, found in runs.items() if found.figures["tokens_per_second"] >= 0.995 * most]
    return min(good), runs[min(good)]


def kindest_fixed(world: World, seeds: Sequence[int]) -> tuple[int, float, float]:
    """The limit of somebody who knows the people: of those whose p99 is as aimed at with every
    seed, the one with the most leftover; where there is none, the kindest.

    Returns it with the least leftover and the highest p99 of the seeds. With other seeds than
    the first, only its limit and their neighbours are tried.
    """
    alone = tuple(seeds) == (1,)
    tried = world.oracle if alone else _around(world, kindest_fixed(world, (1,))[0])
    found: list[tuple[int, float, float]] = []
    for limit in tried:
        each = [used_and_ttft(replace(world, seed=seed), f"fixed {limit:,}") for seed in seeds]
        found.append((limit, min(used for used, _ in each), max(ttft for _, ttft in each)))
    assert world.aims.ttft is not None
    return _kindest(found, world.aims.ttft)


def best_way(world: World, told: Told) -> str:
    """Of those that get to know the people then, the contender that is best in the first ten
    minutes of the first seed."""
    first = replace(world, seed=1, duration=min(_TRIAL, world.duration))
    found = [(name, *used_and_ttft(first, name)) for name in ways_of(told)]
    bound = world.aims.ttft if told.streamed else world.aims.ttft_unseen
    assert bound is not None
    return _kindest(found, bound)[0]


def _kindest(found: Sequence[tuple[_Who, float, float]], bound: float) -> tuple[_Who, float, float]:
    """Of (who, used, p99) the most used where the p99 is within bounds, or else the least p99."""
    kind = [one for one in found if one[2] <= bound]
    return max(kind, key=lambda one: one[1]) if kind else min(found, key=lambda one: one[2])


def _around(world: World, limit: int) -> tuple[int, ...]:
    at = world.oracle.index(limit)
    return world.oracle[max(0, at - 1) : at + 2]


def used_and_ttft(world: World, contender: str) -> tuple[float, float]:
    """The share of the leftover capacity that a batch used, and the interactive p99 time to first
    token as a multiple of that without a batch."""
    alone = run(world, "fixed 0").figures["first_token_p99"]
    most = run(world, f"fixed {ALL_OF_IT:,}").figures["tokens_per_second"]
    figures = run(world, contender).figures
    used = figures["tokens_per_second"] / most
    return round(used, 4), round(figures["first_token_p99"] / alone, 3)


# -- settling ------------------------------------------------------------------------------


def settling_times(world: World, found: Run) -> list[float]:
    """Seconds from each change until two seconds on end bring 90 % of what the best fixed limit
    for that stretch alone brings, and no more wait in the queue than a quarter of them run."""
    times: list[float] = []
    changes = [change for change in world.changes if change.capacity is not None]
    for number, change in enumerate(changes):
        assert change.capacity is not None
        until = changes[number + 1].at if number + 1 < len(changes) else world.duration
        steady = replace(world, capacity=change.capacity, changes=(), duration=60.0)
        level = max(
            run(steady, f"fixed {limit:,}").figures["tokens_per_second"] for limit in world.oracle
        )
        times.append(_settled(found.timeline, change.at, until, level))
    return times


def _settled(timeline: dict[str, list[float]], since: float, until: float, level: float) -> float:
    span = int(2 / BIN)
    for start in range(int(since / BIN), int(until / BIN) - span):
        chosen = slice(start, start + span)
        rate = sum(timeline["tokens"][chosen]) / 2
        waiting, present = sum(timeline["waiting"][chosen]), sum(timeline["in_flight"][chosen])
        if rate >= 0.9 * level and waiting <= 0.25 * max(1.0, present - waiting):
            return start * BIN - since
    return until - since


# -- what results are kept by --------------------------------------------------------------

_variants: list[str] = []


@contextmanager
def variant(name: str) -> Iterator[None]:
    """Whoever runs now is not what the code says, but another, which is called so."""
    _variants.append(name)
    try:
        yield
    finally:
        _variants.pop()


def _digest(world: World, contender: str) -> str:
    digest = hashlib.sha256(f"{world.happens}:{contender}".encode())
    digest.update(_of_simulation())
    base = contender.partition(", ")[0]
    if base in KNOWING or base in {told.value for told in Told}:
        digest.update(
            _content([_HERE / ("knowing.py" if base in KNOWING else "knowing_people.py")])
        )
    if base == KnowsPace.name or not base.startswith(_WITHOUT_CONTROLLER):
        digest.update(_of_controllers())
        digest.update(repr(_variants).encode())
    if ":" in base:
        digest.update(_of_module(base.partition(":")[0]))
    return digest.hexdigest()[:24]


@cache
def _of_simulation() -> bytes:
    model, retries = _PACKAGE / "simulator", _PACKAGE / "client" / "layers" / "retry.py"
    return _content([*(_HERE / n for n in _SIMULATION), *(model / n for n in _MODEL), retries])


@cache
def _of_controllers() -> bytes:
    folders = (_PACKAGE / "concurrency", _PACKAGE / "client" / "layers" / "concurrency")
    sources = [source for folder in folders for source in folder.rglob("*.py")]
    return _content([*sources, _HERE / "ours.py"])


@cache
def _of_module(name: str) -> bytes:
    """Of all that lies beside a module, as it may import that."""
    path = importlib.import_module(name).__file__
    assert path is not None
    return _content(list(Path(path).parent.rglob("*.py")))


def _content(sources: list[Path]) -> bytes:
    return b"".join(source.read_bytes() for source in sorted(sources))
