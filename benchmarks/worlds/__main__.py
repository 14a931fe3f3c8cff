"""The table of worlds: `python -m benchmarks.worlds [--world NAME] [--group NAME] …`.

Without options: every world with the development seeds 1 to 3, by the controller of this package.
`--held-out` shows seeds 101 to 103 beside them, which nothing is developed with. Results are kept
in benchmarks/out/worlds until the code they come from changes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from benchmarks.environment import REPOSITORY
from benchmarks.tables import Aim, print_aims, write_json
from benchmarks.worlds.catalogue import GROUPS, WORLDS
from benchmarks.worlds.knowing import knowing_in
from benchmarks.worlds.knowing_people import Told
from benchmarks.worlds.plots import plot_trade_off, plot_world
from benchmarks.worlds.policies import FORMS
from benchmarks.worlds.suite import best_fixed, best_way, run, used_and_ttft
from benchmarks.worlds.table import COLUMNS, Cell, aims_of, cell, row
from benchmarks.worlds.world import World

_PICTURES = REPOSITORY / "docs" / "worlds"
_HELD_OUT = (101, 102, 103)


def main() -> None:
    options = _parse_options()
    if options.plots:
        for world in _chosen(options):
            _plot(world)
        return
    seeds = {"": options.seeds} if not options.only_held_out else {}
    if options.held_out or options.only_held_out:
        seeds["held out"] = _HELD_OUT
    found: list[Cell] = []
    missed: list[Aim] = []
    _print_line(["world", "contender", *COLUMNS])
    _print_line(["---"] * (2 + len(COLUMNS)))
    for world in _chosen(options):
        for contender in _contenders(world, options):
            for name, numbers in seeds.items():
                one = cell(world, contender, numbers)
                found.append(one)
                missed += [aim for aim in aims_of(one) if not aim.met]
                _print_line([world.name, f"{contender} {name}".strip(), *row(one)])
    print_aims(missed)
    _write(found)


def _contenders(world: World, options: argparse.Namespace) -> Iterator[str]:
    """Every policy in every form, of which those that see nothing have only one; and those that
    know more than ours can."""
    for policy in options.policy or ["adaptive"]:
        if policy.startswith(("fixed ", "AIMD")):
            yield policy
        else:
            yield from (policy + FORMS[form] for form in options.form or ["plain"])
    if options.full_knowledge:
        yield from _knowing(world)


def _knowing(world: World) -> Iterator[str]:
    if world.interactive is not None:
        yield from (best_way(world, told) for told in Told)
        return
    yield f"fixed {best_fixed(replace(world, seed=1))[0]:,}"
    yield from knowing_in(world)


def _chosen(options: argparse.Namespace) -> Iterator[World]:
    names = [name for group in options.group for name in GROUPS[group]] + options.world
    for name in names or WORLDS:
        world = WORLDS[name]
        if options.quick:
            world = replace(world, duration=min(world.duration, max(120.0, world.duration / 3)))
        yield world


_WIDTHS = (33, 24, 15, 6, 7, 4, 5, 5, 9, 13, 12, 17, 0)
"""Of the columns, so that a line can be printed as soon as it is known."""


def _print_line(cells: Sequence[str]) -> None:
    """A line of a table that is also one in Markdown."""
    padded = [
        cell.ljust(width) if number < 2 else cell.rjust(width)
        for number, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ]
    print(f"| {' | '.join(padded)} |", flush=True)


def _write(found: list[Cell]) -> None:
    """All figures of every seed, for whoever wants to draw or compare them."""
    cells = [
        {
            "world": one.world.name,
            "contender": one.contender,
            "runs": [vars(figures) for figures in one.runs],
        }
        for one in found
    ]
    write_json("worlds", {"cells": cells}, [aim for one in found for aim in aims_of(one)])


def _plot(world: World) -> None:
    names = ["adaptive", "AIMD"]
    slug = re.sub("[^a-z0-9]+", "-", world.name.lower()).strip("-")
    if world.interactive is not None:
        names.insert(1, "adaptive, streamed")
        contenders = [*names, *(f"fixed {limit:,}" for limit in world.oracle)]
        trade_off = {name: used_and_ttft(world, name) for name in contenders}
        plot_trade_off(trade_off, _PICTURES / f"{slug}-trade-off.svg")
    if len(world.clients) == 1:
        plot_world(world, {name: run(world, name) for name in names}, _PICTURES / f"{slug}.svg")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worlds", description=__doc__)
    add = parser.add_argument
    add("--world", action="append", default=[], choices=list(WORLDS), metavar="NAME")
    add("--group", action="append", default=[], choices=list(GROUPS))
    add("--seeds", type=_seeds, default=(1, 2, 3), help="such as 1-3 or 2 (default: 1-3)")
    add("--held-out", action="store_true", help="seeds 101 to 103 beside them")
    add("--only-held-out", action="store_true", help="seeds 101 to 103 alone")
    add("--form", action="append", choices=list(FORMS), help="what is seen (default: plain)")
    add(
        "--policy",
        action="append",
        help="adaptive (default), AIMD, 'fixed 64', or module:factory, which is called with "
        "whether answers are streamed and returns a policy, or with nothing and returns a "
        "controller",
    )
    add("--full-knowledge", action="store_true", help="beside them whoever knows what ours cannot")
    add("--quick", action="store_true", help="a third of the time of each world")
    add("--plots", action="store_true", help="instead: pictures into docs/worlds, of seed 1")
    return parser.parse_args()


def _seeds(text: str) -> tuple[int, ...]:
    first, _, last = text.partition("-")
    seeds = tuple(range(int(first), int(last or first) + 1))
    if not seeds or any(seed >= _HELD_OUT[0] for seed in seeds):
        raise argparse.ArgumentTypeError("development seeds are 1 to 100")
    return seeds


if __name__ == "__main__":
    main()
