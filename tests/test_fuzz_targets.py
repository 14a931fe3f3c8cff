"""Every parser of foreign bytes, tried with mutations of its seeds: the same ones each time."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from fuzz.targets import TARGETS, mutations

EXAMPLES = 80
FUZZ = Path(__file__).parent.parent / "fuzz"


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_keeps_its_promises_for_its_seeds_and_what_is_made_of_them(name: str) -> None:
    target = TARGETS[name]
    seeds = (path.read_bytes() for path in sorted(target.seeds.iterdir()))
    changed = itertools.islice(mutations(target, random.Random(name)), EXAMPLES)
    for data in itertools.chain(seeds, changed):
        try:
            target.check(data)
        except BaseException as error:
            error.add_note(f"the input: {data!r}")
            raise


def test_every_target_is_in_the_list() -> None:
    modules = {path.stem for path in FUZZ.glob("*.py")} - {"engine", "gateway_recipes", "targets"}
    assert TARGETS.keys() == modules
    assert modules == {path.name for path in (FUZZ / "seeds").iterdir()}
