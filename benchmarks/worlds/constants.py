"""What each constant of the controller is worth: `python -m benchmarks.worlds.constants`.

Every number that a module of `batch_gateway.concurrency` gives a name in capitals is halved and
doubled, one after the other, in a handful of worlds. Nothing should fall off a cliff. A share of
more than a half is halved and doubled in its distance to one. One seed tells a cliff from chance
well enough; `--module NAME --seeds 1 2 3` looks closer.
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

_CELLS = (
    *((name, "adaptive") for name in ("queues", "changes", "wobble 1..4", "chance 5%", "quota")),
    *((name, "adaptive") for name in ("full replica, at random", "lengths, few distinct")),
    *(("shared, 64 seats", form) for form in ("adaptive", "adaptive, streamed")),
)
_CELLS_WITH_METRICS = tuple(
    (name, "adaptive, with metrics") for name in ("queues", "changes", "shared, 64 seats")
)
_METRICS_MODULE = "server_load"


@dataclass(frozen=True)
class Constant:
    """A number with a name in a module, and every module that has it by that name."""

    name: str
    value: float
    module: ModuleType
    users: tuple[ModuleType, ...]

    @property
    def place(self) -> str:
        return f"{self.module.__name__.rpartition('.')[2]}.{self.name}"


# -- finding and changing constants --------------------------------------------------------


def constants_of(modules: Sequence[ModuleType]) -> Iterator[Constant]:
    """Numbers with names in capitals that these modules define, but for 0."""
    trees = {module: ast.parse(inspect.getsource(module)) for module in modules}
    for module, tree in trees.items():
        for name in _assigned(tree):
            value = getattr(module, name)
            if name.isupper() and type(value) in (int, float) and value:
                users = [other for other in modules if _imports(trees[other], module, name)]
                yield Constant(name, value, module, (module, *users))


def _assigned(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            yield from (name.id for name in names if isinstance(name, ast.Name))


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

Scores = dict[str, float]
"""By world and contender: the worst seed's share of the best, of the leftover, or of the quota."""


@dataclass(frozen=True)
class Found:
    scores: Scores
    ttft: float
    """The worst p99 of people, over that without a batch."""

    def fallen(self, usual: Scores) -> list[str]:
        """What lost more than a cliff, with what it had and has."""
        return [
            f"{name} {usual[name]:.2f} to {score:.2f}"
            for name, score in self.scores.items()
            if score < (1 - CLIFF) * usual[name]
        ]


def measured(cells: Sequence[tuple[str, str]], seeds: Sequence[int]) -> Found:
    scores, ttfts = Scores(), [0.0]
    for name, contender in cells:
        world = WORLDS[name]
        longest = LONGEST if world.interactive is None else 6 * LONGEST
        world = replace(world, duration=min(world.duration, longest))
        found = cell(world, contender, seeds)
        shares = (found.least(figure) for figure in ("quota", "used", "goodput"))
        scores[f"{name} ({contender})"] = next(share for share in shares if share is not None)
        ttfts.append(found.most("ttft") or 0.0)
    return Found(scores, max(ttfts))


def _shown(found: Found) -> str:
    values = found.scores.values()
    return f"{fmean(values):.3f} {min(values):.3f} {found.ttft:6.2f}"


# -- the table -----------------------------------------------------------------------------


def main() -> None:
    options = _parse_options()
    modules = _modules()
    results: list[dict[str, Any]] = []
    print(f"{'':38} {'value':>8}  {'half: mean, worst, p99':22}  {'twice: mean, worst, p99':22}")
    usual: dict[tuple[tuple[str, str], ...], Found] = {}
    for constant in constants_of(modules):
        module = constant.place.partition(".")[0]
        if options.module and module not in options.module:
            continue
        cells = _CELLS_WITH_METRICS if module == _METRICS_MODULE else _CELLS
        if cells not in usual:
            usual[cells] = measured(cells, options.seeds)
            print(f"{'as it is':38} {'':>8}  {_shown(usual[cells])}", flush=True)
        results.append(_row(constant, cells, options.seeds, usual[cells].scores))
    write_json("worlds-constants", {"constants": results}, [])


def _row(
    constant: Constant, cells: Sequence[tuple[str, str]], seeds: Sequence[int], usual: Scores
) -> dict[str, Any]:
    found: list[Found] = []
    for value in half_and_twice(constant.value):
        with patched(constant, value):
            found.append(measured(cells, seeds))
    shown = "  ".join(f"{_shown(one):22}" for one in found)
    fallen = [
        f"{which}: {what}"
        for which, one in zip(("half", "twice"), found, strict=True)
        for what in one.fallen(usual)
    ]
    print(f"{constant.place:38} {constant.value:>8g}  {shown}  {'; '.join(fallen)}", flush=True)
    scores = {"half": found[0].scores, "twice": found[1].scores}
    return {"constant": constant.place, "value": constant.value, **scores}


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
