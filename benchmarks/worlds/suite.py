"""Runs worlds and contenders, with results kept between runs, and the figures that are aimed at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import batch_gateway
from benchmarks.environment import OUT
from benchmarks.worlds.policies import AIMD, Fixed, Ours, OursWithMetrics, Policy
from benchmarks.worlds.record import BIN
from benchmarks.worlds.simulation import simulate
from benchmarks.worlds.world import World

__all__ = ["CONTENDERS", "Run", "best_fixed", "run", "settling_times"]

CONTENDERS: dict[str, Callable[[], Policy]] = {
    "adaptive": Ours,
    "adaptive, streamed": lambda: Ours(sees_first_token=True),
    "adaptive, with metrics": OursWithMetrics,
    "AIMD": AIMD,
    "fixed 10": lambda: Fixed(10),
    "fixed 100": lambda: Fixed(100),
    "fixed 1,000": lambda: Fixed(1_000),
}
_TIMELINES = ("limit", "in_flight", "waiting", "tokens", "refused")


@dataclass(frozen=True)
class Run:
    """Figures of one contender in one world, and its timeline in bins of half a second."""

    figures: dict[str, Any]
    timeline: dict[str, list[float]]


def run(world: World, contender: str) -> Run:
    """One run, or what it brought when the same code ran before."""
    path = OUT / "worlds" / f"{_digest(world, contender)}.json"
    if path.is_file():
        kept = json.loads(path.read_text("utf-8"))
        return Run(kept["figures"], kept["timeline"])
    policy = CONTENDERS[contender]() if contender in CONTENDERS else _fixed(contender)
    record = simulate(world, policy)
    timeline = {name: getattr(record, f"{name}_by_bin") for name in _TIMELINES}
    timeline["latency"] = [
        total / count if count else 0.0
        for total, count in zip(record.latency_by_bin, record.completed_by_bin, strict=True)
    ]
    done = Run(record.figures(), {k: [round(v, 3) for v in vs] for k, vs in timeline.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"figures": done.figures, "timeline": done.timeline}), "utf-8")
    return done


def _fixed(contender: str) -> Policy:
    return Fixed(int(contender.removeprefix("fixed ").replace(",", "")))


def best_fixed(world: World) -> tuple[int, Run]:
    """The oracle: of the fixed limits, the smallest that is within half a per cent of the best."""
    runs = {limit: run(world, f"fixed {limit:,}") for limit in world.oracle}
    most = max(found.figures["tokens_per_second"] for found in runs.values())
    good = [n for n, found in runs.items() if found.figures["tokens_per_second"] >= 0.995 * most]
    return min(good), runs[min(good)]


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


def _digest(world: World, contender: str) -> str:
    digest = hashlib.sha256(
        f"{world.name}:{world.duration}:{world.capacity}:{world.changes}".encode()
    )
    digest.update(f"{contender}:{world.seed}".encode())
    package = Path(batch_gateway.__file__).parent
    sources = [*(package / "simulator").glob("*.py"), *Path(__file__).parent.glob("w*.py")]
    sources += [
        Path(__file__).parent / name
        for name in ("catalogue.py", "record.py", "simulation.py", "policies.py")
    ]
    if contender.startswith("adaptive"):
        sources += (package / "client" / "concurrency").glob("*.py")
        sources += (package / "concurrency").glob("*.py")
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]
