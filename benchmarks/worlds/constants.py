"""What each constant of the controller is worth: `python -m benchmarks.worlds.constants`.

Every number that a module of `batch_gateway.concurrency` gives a name in capitals is halved and
doubled, one after the other, in worlds that its part has to do with; what only tells of a limit
is left out. A share of more than a half is halved and doubled in its distance to one. Nothing
should fall off a cliff. One seed tells a cliff from chance well enough; `--module NAME --seeds 1
2 3` looks closer. The table is Markdown: `docs/worlds.md` has it.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from statistics import fmean
from types import ModuleType
from typing import Any

import batch_gateway.concurrency
from benchmarks.tables import write_json
from benchmarks.worlds.catalogue import WORLDS
from benchmarks.worlds.suite import variant
from benchmarks.worlds.table import cell

__all__ = ["Constant", "constants_of", "half_and_twice", "patched"]

LONGEST = 150.0
"""Seconds of a world; people come for six times as long, as their p99 needs them."""

CLIFF = 0.1
"""A world that loses more than this share of what it had is named."""

STEEP = 1.5
"""A world where people wait so many times as long at the 99th percentile is named too."""

_PEOPLE = "shared, 64 seats"
_FINDING = (
    *((name, "adaptive") for name in ("queues", "changes", "wobble 1..4", "chance 5%")),
    *((name, "adaptive") for name in ("lengths, few distinct", "pool of 2", _PEOPLE)),
)
_REFUSED = tuple(
    (name, "adaptive") for name in ("refuses", "chance 5%", "quota", "full replica, at random")
)
_GUARDED = tuple(
    (name, "adaptive, streamed") for name in (_PEOPLE, "wobble 1..4", "pool of 2", "queues")
)
_LOOKED_AT = tuple((name, "adaptive, with metrics") for name in ("queues", "changes", _PEOPLE))
_FAILING = tuple((name, "adaptive") for name in ("outage", "flaky"))
_CELLS = {
    **dict.fromkeys(("ceiling", "pace", "rank_step", "sequential_test"), _REFUSED),
    **dict.fromkeys(("door", "guard"), _GUARDED),
    "server_load": _LOOKED_AT,
    "failures": _FAILING,
}
"""By module; every other has to do with finding."""

_ONLY_TELL = ("reasons", "telling")


@dataclass(frozen=True)
class Constant:
    """A number with a name in a module, every module that has it by that name, and what is said
    of it there."""

    name: str
    value: float
    module: ModuleType
    users: tuple[ModuleType, ...]
    reason: str

    @property
    def place(self) -> str:
        return f"{self.module.__name__.rpartition('.')[2]}.{self.name}"


# -- finding and changing constants --------------------------------------------------------


def constants_of(modules: Sequence[ModuleType]) -> Iterator[Constant]:
    """Numbers with names in capitals that these modules define, but for 0."""
    sources = {module: inspect.getsource(module) for module in modules}
    trees = {module: ast.parse(source) for module, source in sources.items()}
    for module, tree in trees.items():
        for name, node in _assigned(tree):
            value = getattr(module, name)
            if name.isupper() and type(value) in (int, float) and value:
                users = [other for other in modules if _imports(trees[other], module, name)]
                reason = _reason(sources[module].splitlines(), node, tree)
                yield Constant(name, value, module, (module, *users), reason)


def _assigned(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from ((name.id, node) for name in names if isinstance(name, ast.Name))


def _reason(lines: list[str], node: ast.stmt, tree: ast.Module) -> str:
    """The comment behind it, the words below it, or the comment above it."""
    assert node.end_lineno is not None
    behind = lines[node.end_lineno - 1][node.end_col_offset :].strip()
    if behind.startswith("#"):
        return behind.removeprefix("#").strip()
    for other in tree.body:
        if other.lineno == node.end_lineno + 1 and isinstance(other, ast.Expr):
            return " ".join(str(ast.literal_eval(other.value)).split())
    above = node.lineno - 1
    while above and lines[above - 1].startswith("#"):
        above -= 1
    return " ".join(line.removeprefix("#").strip() for line in lines[above : node.lineno - 1])


def _imports(tree: ast.Module, module: ModuleType, name: str) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == module.__name__
        and any(alias.name == name and alias.asname is None for alias in node.names)
        for node in tree.body
    )


def half_and_twice(value: float) -> tuple[float, float]:
    """Of a count at least 1; of a share above a half, of its distance to one."""
    if isinstance(value, int):
        return max(1, value // 2), 2 * value
    if 0.5 < value < 1:
        return 1 - (1 - value) / 2, 1 - (1 - value) * 2
    return value / 2, 2 * value


@contextmanager
def patched(constant: Constant, value: float) -> Iterator[None]:
    """It has that value wherever it is used."""
    for module in constant.users:
        setattr(module, constant.name, value)
    try:
        with variant(f"{constant.place}={value!r}"):
            yield
    finally:
        for module in constant.users:
            setattr(module, constant.name, constant.value)


# -- figures -------------------------------------------------------------------------------

Cells = tuple[tuple[str, str], ...]
"""Of worlds and contenders."""


@dataclass(frozen=True)
class Found:
    """By world: the worst seed's share of the best, of the leftover, or of the quota; and the
    worst p99 of people, over that without a batch."""

    scores: dict[str, float]
    ttfts: dict[str, float]

    def fallen(self, usual: Found) -> list[str]:
        """What lost more than a cliff, with what it had and has."""
        lost = [
            f"{name} {usual.scores[name]:.2f} to {score:.2f}"
            for name, score in self.scores.items()
            if score < (1 - CLIFF) * usual.scores[name]
        ]
        waits = [
            f"p99 of {name} {usual.ttfts[name]:.2f} to {ttft:.2f}"
            for name, ttft in self.ttfts.items()
            if ttft > STEEP * usual.ttfts[name]
        ]
        return lost + waits

    def shown(self) -> str:
        values = self.scores.values()
        ttft = "".join(f" {ttft:.2f}" for ttft in self.ttfts.values())
        return f"{fmean(values):.3f} {min(values):.3f}{ttft}"


def measured(cells: Cells, seeds: Sequence[int]) -> Found:
    found = Found({}, {})
    for name, contender in cells:
        world = WORLDS[name]
        longest = LONGEST if world.interactive is None else 6 * LONGEST
        world = replace(world, duration=min(world.duration, longest))
        one = cell(world, contender, seeds)
        shares = (one.least(figure) for figure in ("quota", "used", "goodput"))
        found.scores[name] = next(share for share in shares if share is not None)
        if (ttft := one.most("ttft")) is not None:
            found.ttfts[name] = ttft
    return found


# -- the table -----------------------------------------------------------------------------


def main() -> None:
    options = _parse_options()
    results: list[dict[str, Any]] = []
    _print("constant", "value", "why", "half", "twice", "what falls off a cliff")
    _print(*["---"] * 6)
    usual: dict[Cells, Found] = {}
    for constant in constants_of(_modules()):
        module = constant.place.partition(".")[0]
        if module in _ONLY_TELL or (options.module and module not in options.module):
            continue
        cells = _CELLS.get(module, _FINDING)
        if cells not in usual:
            usual[cells] = measured(cells, options.seeds)
            worlds = ", ".join(f"*{name}*" for name, _ in cells)
            _print("as it is", "", f"in {worlds}", usual[cells].shown(), "", "")
        results.append(_row(constant, cells, options.seeds, usual[cells]))
    write_json("worlds-constants", {"constants": results}, [])


def _row(constant: Constant, cells: Cells, seeds: Sequence[int], usual: Found) -> dict[str, Any]:
    found: list[Found] = []
    for value in half_and_twice(constant.value):
        with patched(constant, value):
            found.append(measured(cells, seeds))
    fallen = [
        f"{which}: {what}"
        for which, one in zip(("half", "twice"), found, strict=True)
        for what in one.fallen(usual)
    ]
    half, twice = (one.shown() for one in found)
    place, value = f"`{constant.place}`", f"{constant.value:g}"
    _print(place, value, constant.reason, half, twice, "; ".join(fallen))
    scores = {"half": found[0].scores, "twice": found[1].scores}
    return {"constant": constant.place, "value": constant.value, **scores}


def _print(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def _modules() -> list[ModuleType]:
    package = batch_gateway.concurrency
    names = [found.name for found in pkgutil.iter_modules(package.__path__)]
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", action="append", help="only its constants, such as finder")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    return parser.parse_args()


if __name__ == "__main__":
    main()
