"""From runs to the table: each figure that a world aims at, and whether it was reached."""

from __future__ import annotations

from typing import Any

from benchmarks.tables import Aim
from benchmarks.worlds.suite import CONTENDERS, best_fixed, run, settling_times
from benchmarks.worlds.world import World

__all__ = ["aims_of", "judge", "trade_off", "trade_off_of"]


def judge(world: World) -> dict[str, Any]:
    """Figures of every contender in one world, and of the oracle."""
    limit, oracle = best_fixed(world)
    best = oracle.figures["tokens_per_second"]
    rows: dict[str, Any] = {}
    for contender in (*CONTENDERS, f"fixed {limit:,}"):
        found = run(world, contender)
        rows[contender] = dict(found.figures)
        rows[contender]["goodput"] = round(found.figures["tokens_per_second"] / best, 4)
        if world.aims.settle is not None:
            times = settling_times(world, found)
            rows[contender]["settle_longest"] = max(times)
            rows[contender]["settle_times"] = times
    result: dict[str, Any] = {"oracle": limit, "contenders": rows}
    if world.interactive is not None:
        result["trade_off"] = trade_off(world)
    return result


def trade_off(world: World) -> dict[str, tuple[float, float]]:
    """For each contender: share of the leftover capacity, and the interactive p99 time to first
    token as a multiple of that without a batch."""
    names = [*CONTENDERS, *(f"fixed {limit:,}" for limit in world.oracle)]
    return {name: trade_off_of(world, name) for name in names}


def trade_off_of(world: World, contender: str) -> tuple[float, float]:
    """The two figures of `trade_off` for one contender."""
    alone = run(world, "fixed 0").figures["first_token_p99"]
    most = run(world, "fixed 1,000").figures["tokens_per_second"]
    figures = run(world, contender).figures
    used = figures["tokens_per_second"] / most
    return round(used, 4), round(figures["first_token_p99"] / alone, 3)


def aims_of(world: World, result: dict[str, Any]) -> list[Aim]:
    """The aims of our own contender; where people share the server, of the streamed one."""
    ours = result["contenders"]["adaptive"]
    wanted, aims = world.aims, list[Aim]()
    if wanted.goodput is not None:
        share = ours["goodput"]
        aims.append(Aim(f"{world.name}: share of the oracle", share, wanted.goodput, True))
    if wanted.refused is not None:
        aims.append(Aim(f"{world.name}: sends refused", ours["refused_share"], wanted.refused))
    if wanted.wait is not None:
        aims.append(Aim(f"{world.name}: queue wait / service", ours["wait_share"], wanted.wait))
    if wanted.settle is not None:
        longest = ours["settle_longest"]
        aims.append(Aim(f"{world.name}: longest time to the new level", longest, wanted.settle))
    if wanted.lost is not None:
        aims.append(Aim(f"{world.name}: lines lost", ours["lost"], wanted.lost))
    for name in ("adaptive, streamed", "adaptive", "adaptive, with metrics"):
        if wanted.ttft is not None and wanted.leftover is not None:
            used, ttft = result["trade_off"][name]
            aims.append(Aim(f"{world.name}, {name}: interactive p99 TTFT", ttft, wanted.ttft))
            aims.append(Aim(f"{world.name}, {name}: leftover used", used, wanted.leftover, True))
    return aims
