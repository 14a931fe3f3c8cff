"""Plain tables and verdicts on a terminal, and the same figures as JSON in `out/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.environment import OUT
from benchmarks.machine import describe

__all__ = ["Aim", "print_aims", "print_table", "write_json"]


@dataclass(frozen=True)
class Aim:
    """A figure that was promised: `value` is to be at most, or at least, `bound`."""

    what: str
    value: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        verdict = "met" if self.met else "MISSED"
        return f"{verdict:<7} {self.what}: {self.value:.3g} (aim: {relation} {self.bound:g})"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    print(f"\n{title}")
    for row in [columns, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join(cells).rstrip(), flush=True)


def print_aims(aims: Sequence[Aim]) -> None:
    if aims:
        print("\nAims")
    for aim in aims:
        print(f"  {aim}")


def write_json(name: str, figures: Mapping[str, Any], aims: Sequence[Aim]) -> None:
    """`out/NAME.json`: the machine, the figures, the aims and whether they were met."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    content = {
        "machine": describe(),
        **figures,
        "aims": [
            {
                "what": aim.what,
                "value": aim.value,
                "bound": aim.bound,
                "at_least": aim.at_least,
                "met": aim.met,
            }
            for aim in aims
        ],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(f"\nwritten: {path.relative_to(OUT.parents[1])}")
