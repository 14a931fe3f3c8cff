"""Makes rows of the tables in `docs/worlds.md` anew: `python -m benchmarks.worlds.document`.

A row is known by its world, and a column by its heading; what is under other headings stays as it
is. `--world`, `--group` and `--column` choose. Each row names the controller that its
held-out columns are of, where all of them are made anew.
"""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from benchmarks.environment import REPOSITORY
from benchmarks.worlds.catalogue import GROUPS, WORLDS
from benchmarks.worlds.policies import FORMS
from benchmarks.worlds.suite import best_fixed, kindest_fixed
from benchmarks.worlds.table import Cell, cell
from benchmarks.worlds.world import World

__all__ = ["COLUMNS", "PAGE", "remade"]

FIRST, HELD_OUT = (1, 2, 3), (101, 102, 103)
PAGE = REPOSITORY / "docs" / "worlds.md"
_CONTROLLER = "src/batch_gateway/concurrency"
_OF, _HELD = "controller", "held out"


def _best(form: str, seeds: Sequence[int]) -> Callable[[World], str]:
    """Of goodput, or beside people of what they leave and their p99."""

    def shown(world: World) -> str:
        found = cell(world, "adaptive" + FORMS[form], seeds)
        if world.interactive is None:
            return _both(found, "goodput", found.least, 3)
        used, ttft = _both(found, "used", found.least, 3), _both(found, "ttft", found.most, 2)
        return f"{used} at {ttft}"

    return shown


def _both(found: Cell, name: str, worst: Callable[[str], float | None], digits: int) -> str:
    return f"{found.mean(name):.{digits}f} ({worst(name):.{digits}f})"


def _plain_held_out(world: World) -> Cell:
    return cell(world, "adaptive", HELD_OUT)


def _share(name: str) -> Callable[[World], str]:
    def shown(world: World) -> str:
        worst = _plain_held_out(world).most(name) or 0.0
        return f"{worst:.1%}" if worst >= 0.0005 else "0"

    return shown


def _also(world: World) -> str:
    found = _plain_held_out(world)
    if world.quota is not None:
        return f"{found.least('quota'):.3f} of the quota"
    if len(world.clients) > 1:
        streamed = cell(world, "adaptive" + FORMS["streamed"], HELD_OUT).least("least")
        return f"least client {found.least('least'):.3f}, streamed {streamed:.3f}"
    settle = found.most("settle")
    return "" if settle is None else f"new level {settle:.1f} s"


def _fixed(world: World) -> str:
    if world.interactive is None:
        return str(best_fixed(replace(world, seed=1))[0])
    limit, used, ttft = kindest_fixed(world, HELD_OUT)
    return f"{limit}: {used:.2f} at {ttft:.2f}"


COLUMNS: dict[str, Callable[[World], str]] = {
    "best fixed": _fixed,
    "who knows the people": _fixed,
    "first seeds": _best("plain", FIRST),
    "held out": _best("plain", HELD_OUT),
    "streamed": _best("streamed", FIRST),
    "streamed, held out": _best("streamed", HELD_OUT),
    "with metrics, held out": _best("metrics", HELD_OUT),
    "neither, held out": _best("plain", HELD_OUT),
    "queue wait": _share("wait"),
    "refused": _share("refused"),
    "also": _also,
}


def remade(
    page: str, worlds: Sequence[str], columns: Sequence[str], controller: str
) -> Iterator[str]:
    """The page's lines, rows of these worlds with these columns anew."""
    headings: list[str] = []
    for line in page.split("\n"):
        cells = [one.strip() for one in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            headings = []
        elif not headings:
            headings = cells
        elif _OF in headings and cells[0] in worlds:
            yield f"| {' | '.join(_row(headings, cells, columns, controller))} |"
            continue
        yield line


def _row(
    headings: list[str], cells: list[str], columns: Sequence[str], controller: str
) -> Iterator[str]:
    world = WORLDS[cells[0]]
    of_controller = {heading for heading in headings if heading in COLUMNS and _HELD in heading}
    for heading, shown in zip(headings, cells, strict=True):
        if heading in COLUMNS and heading in columns:
            yield COLUMNS[heading](world)
        elif heading == _OF and of_controller <= set(columns):
            yield controller
        else:
            yield shown


def main() -> None:
    options = _parse_options()
    named = [name for group in options.group for name in GROUPS[group]] + options.world
    controller = _controller()
    for world in named or WORLDS:
        lines = remade(PAGE.read_text("utf-8"), [world], options.column or [*COLUMNS], controller)
        PAGE.write_text("\n".join(lines), "utf-8")
        print(world, flush=True)


def _controller() -> str:
    """Git's name of what is in the controller's folder, which stays when commits are moved."""
    command = ["git", "rev-parse", "--short=7", f"HEAD:{_CONTROLLER}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", action="append", default=[], choices=list(WORLDS))
    parser.add_argument("--group", action="append", default=[], choices=list(GROUPS))
    parser.add_argument("--column", action="append", choices=list(COLUMNS))
    return parser.parse_args()


if __name__ == "__main__":
    main()
