"""`python -m benchmarks.worlds [--world NAME] [--quick] [--no-plots] [--seeds N]`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from benchmarks.environment import REPOSITORY
from benchmarks.tables import Aim, print_aims, print_table, write_json
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.judgement import aims_of, judge
from benchmarks.worlds.plots import plot_trade_off, plot_world
from benchmarks.worlds.suite import run
from benchmarks.worlds.variations import print_variations
from benchmarks.worlds.world import World

_PICTURES = REPOSITORY / "docs" / "worlds"
_COLUMNS = ("goodput", "refused_share", "wait_share", "lost", "settle_longest", "first_token_p99")


def main() -> None:
    options = _parse_options()
    if options.seeds:
        print_variations(options.seeds)
        return
    names = [options.world] if options.world else list(WORLDS)
    results: dict[str, Any] = {}
    aims: list[Aim] = []
    for name in names:
        world = WORLDS[name]
        if options.quick:
            world = replace(world, duration=min(world.duration, max(120.0, world.duration / 3)))
        results[name] = judge(world)
        aims += aims_of(world, results[name])
        _print(world, results[name])
        if options.plots:
            _plot(world, results[name])
    print_aims(aims)
    if not options.world:
        write_json("worlds-quick" if options.quick else "worlds", {"worlds": results}, aims)


def _print(world: World, result: dict[str, Any]) -> None:
    rows = [
        [name, *(str(figures.get(column, "")) for column in _COLUMNS)]
        for name, figures in result["contenders"].items()
    ]
    print_table(
        f"{world.name}: {world.title} (best fixed: {result['oracle']})", ["", *_COLUMNS], rows
    )
    if "trade_off" in result:
        rows = [[name, *map(str, point)] for name, point in result["trade_off"].items()]
        print_table("interactive users", ["", "leftover used", "p99 TTFT"], rows)


def _plot(world: World, result: dict[str, Any]) -> None:
    names = ["adaptive", "AIMD"]
    if world.interactive is not None:
        names.insert(1, "adaptive, streamed")
        plot_trade_off(result["trade_off"], _PICTURES / f"{world.name}-trade-off.svg")
    plot_world(world, {name: run(world, name) for name in names}, _PICTURES / f"{world.name}.svg")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worlds", description=__doc__)
    parser.add_argument("--world", choices=list(WORLDS))
    parser.add_argument("--quick", action="store_true", help="a third of the time of each world")
    parser.add_argument(
        "--seeds",
        type=int,
        help="instead: the worst of so many, in every variation",
    )
    parser.add_argument("--no-plots", dest="plots", action="store_false")
    return parser.parse_args()


if __name__ == "__main__":
    main()
